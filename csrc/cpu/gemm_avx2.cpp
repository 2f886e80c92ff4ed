// 6 x 16 floats or 6 x 8 doubles a tile: 12 of 16 registers hold sums.
#include "cpu/gemm_kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define FEDFAST_TARGET __attribute__((target("avx2,fma")))
#include "cpu/gemm_tile.h"

#define FEDFAST_OP FEDFAST_TARGET static FEDFAST_INLINE

namespace fedfast {
namespace {

struct Floats {
  using T = float;
  using Reg = __m256;
  using Mask = __m256i;
  static constexpr int lanes = 8, rows = 6, group = 4;

  FEDFAST_OP Mask mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  FEDFAST_OP Reg zero() { return _mm256_setzero_ps(); }
  FEDFAST_OP Reg broadcast(T x) { return _mm256_set1_ps(x); }
  FEDFAST_OP Reg load(const T* p) { return _mm256_loadu_ps(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm256_maskload_ps(p, m); }
  FEDFAST_OP void store(T* p, Reg x) { _mm256_storeu_ps(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm256_maskstore_ps(p, m, x); }
  FEDFAST_OP void stream(T* p, Reg x) { _mm256_stream_ps(p, x); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }

  FEDFAST_OP Reg join(const T* p, int64_t step) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + step), 1);
  }
  FEDFAST_OP void in_group(Reg (&t)[4]) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(t[0], t[1]));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(t[0], t[1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(t[2], t[3]));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(t[2], t[3]));
    t[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    t[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    t[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    t[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
  // In each 16 bytes [x, y, ., .]: the sums of theirs in x and in y, even elements first.
  FEDFAST_OP Reg add_in_group(Reg x, Reg y) {
    const Reg pairs = _mm256_add_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
    return _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0x4e));
  }
  FEDFAST_OP void add_groups(Reg x, T* to) {
    const __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    _mm_storel_pi(reinterpret_cast<__m64*>(to), sum);
  }
};

struct Doubles {
  using T = double;
  using Reg = __m256d;
  using Mask = __m256i;
  static constexpr int lanes = 4, rows = 6, group = 2;

  FEDFAST_OP Mask mask(int64_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  FEDFAST_OP Reg zero() { return _mm256_setzero_pd(); }
  FEDFAST_OP Reg broadcast(T x) { return _mm256_set1_pd(x); }
  FEDFAST_OP Reg load(const T* p) { return _mm256_loadu_pd(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm256_maskload_pd(p, m); }
  FEDFAST_OP void store(T* p, Reg x) { _mm256_storeu_pd(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm256_maskstore_pd(p, m, x); }
  FEDFAST_OP void stream(T* p, Reg x) { _mm256_stream_pd(p, x); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }

  FEDFAST_OP Reg join(const T* p, int64_t step) {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p)), _mm_loadu_pd(p + step), 1);
  }
  FEDFAST_OP void in_group(Reg (&t)[2]) {
    const Reg low = _mm256_unpacklo_pd(t[0], t[1]);
    t[1] = _mm256_unpackhi_pd(t[0], t[1]);
    t[0] = low;
  }
  FEDFAST_OP Reg add_in_group(Reg x, Reg y) {
    return _mm256_add_pd(_mm256_unpacklo_pd(x, y), _mm256_unpackhi_pd(x, y));
  }
  FEDFAST_OP void add_groups(Reg x, T* to) {
    _mm_storeu_pd(to, _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1)));
  }
};

// Two vectors in the place of one of AVX-512, whose lanes are added up in the same order.
template <typename V>
struct Pair {
  using T = typename V::T;
  struct Reg {
    typename V::Reg low, high;
  };
  struct Mask {
    typename V::Mask low, high;
  };
  static constexpr int lanes = 2 * V::lanes, group = 2, dot_rows = 3;

  FEDFAST_OP Mask mask(int64_t n) { return {V::mask(n), V::mask(n - V::lanes)}; }
  FEDFAST_OP Reg zero() { return {V::zero(), V::zero()}; }
  FEDFAST_OP Reg load(const T* p) { return {V::load(p), V::load(p + V::lanes)}; }
  FEDFAST_OP Reg load(const T* p, Mask m) {
    return {V::load(p, m.low), V::load(p + V::lanes, m.high)};
  }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) {
    return {V::fma(a.low, b.low, c.low), V::fma(a.high, b.high, c.high)};
  }
  FEDFAST_OP void add_lanes(const Reg (&x)[2], T* to) {
    const typename V::Reg low = V::add_in_group(x[0].low, x[1].low);
    V::add_groups(V::add(low, V::add_in_group(x[0].high, x[1].high)), to);
  }
};

}  // namespace

bool avx2_kernels(Kernels<float>& kernels) { return fill<Floats, Pair<Floats>>(kernels), true; }
bool avx2_kernels(Kernels<double>& kernels) { return fill<Doubles, Pair<Doubles>>(kernels), true; }

}  // namespace fedfast
#else
namespace fedfast {
bool avx2_kernels(Kernels<float>&) { return false; }
bool avx2_kernels(Kernels<double>&) { return false; }
}  // namespace fedfast
#endif
