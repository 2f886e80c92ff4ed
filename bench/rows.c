// What moving a client's row takes: bare loops over n floats (a multiple of 16, aligned to lines).
// Compiled and called by bench_corrections.py.
#include <stddef.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef float Vector __attribute__((vector_size(64), aligned(64)));
enum { LANES = 16 };

float read_row(const float* from, long n) {
  Vector sum = {0};
  for (long i = 0; i < n; i += LANES) sum += *(const Vector*)(from + i);
  return sum[0];
}

void copy_row(const float* from, float* to, long n) {
  for (long i = 0; i < n; i += LANES) *(Vector*)(to + i) = *(const Vector*)(from + i);
}

// Past the caches.
void stream_row(float* to, long n) {
#ifdef __SSE2__
  const __m128 one = _mm_set1_ps(1);
  for (long i = 0; i < n; i += 4) _mm_stream_ps(to + i, one);
  _mm_sfence();
#else
  for (long i = 0; i < n; ++i) to[i] = 1;
#endif
}
