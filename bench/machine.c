// What one core gives: multiply-adds per second, and bytes per second of reading memory and of
// adding to it in place. Compiled and called by bench_roofline.py.
#include <stddef.h>
#include <time.h>

typedef float Vector __attribute__((vector_size(64), aligned(64)));
enum { LANES = 16, CHAINS = 12 };
#define UNROLL _Pragma("GCC unroll 16")

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

// Floating-point operations per second of independent chains of multiply-adds.
double flops(long turns) {
  Vector sum[CHAINS], factor = {0}, term = {0};
  UNROLL
  for (int c = 0; c < CHAINS; ++c) sum[c] = (Vector){0} + 1e-3f * c;
  factor += 0.5f;
  term += 0.25f;
  const double begin = now();
  for (long i = 0; i < turns; ++i) {
    UNROLL
    for (int c = 0; c < CHAINS; ++c) {
      sum[c] = sum[c] * factor + term;
      __asm__ volatile("" : "+x"(sum[c]));  // or the compiler would find a closed form
    }
  }
  const double seconds = now() - begin;
  UNROLL
  for (int c = 0; c < CHAINS; ++c) __asm__ volatile("" ::"x"(sum[c]));
  return 2.0 * LANES * CHAINS * turns / seconds;
}

// Bytes per second of reading `count` floats, `turns` times.
double reading(const float* from, size_t count, long turns) {
  Vector sum[4] = {{0}};
  const double begin = now();
  for (long i = 0; i < turns; ++i) {
    for (size_t j = 0; j < count; j += 4 * LANES) {
      UNROLL
      for (int c = 0; c < 4; ++c) sum[c] += *(const Vector*)(from + j + c * LANES);
    }
    __asm__ volatile("" ::: "memory");
  }
  const double seconds = now() - begin;
  UNROLL
  for (int c = 0; c < 4; ++c) __asm__ volatile("" ::"x"(sum[c]));
  return 4.0 * count * turns / seconds;
}

// The same where each number is read and written: both count.
double updating(float* to, size_t count, long turns) {
  const double begin = now();
  for (long i = 0; i < turns; ++i) {
    for (size_t j = 0; j < count; j += LANES) *(Vector*)(to + j) += 1.0f;
    __asm__ volatile("" ::: "memory");
  }
  return 8.0 * count * turns / (now() - begin);
}
