// 14 x 32 floats or 14 x 16 doubles a tile: 28 of 32 registers hold sums.
#include "cpu/gemm_kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
// GCC 12's own header leaves a register undefined on purpose and warns about it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define FEDFAST_TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma")))
#include "cpu/gemm_tile.h"

#define FEDFAST_OP FEDFAST_TARGET static FEDFAST_INLINE

namespace fedfast {
namespace {

struct Floats {
  using T = float;
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr int lanes = 16, rows = 14, group = 4, dot_rows = 6;

  FEDFAST_OP Mask mask(int64_t n) { return static_cast<Mask>((1u << n) - 1); }
  FEDFAST_OP Reg zero() { return _mm512_setzero_ps(); }
  FEDFAST_OP Reg broadcast(T x) { return _mm512_set1_ps(x); }
  FEDFAST_OP Reg load(const T* p) { return _mm512_loadu_ps(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
  FEDFAST_OP void store(T* p, Reg x) { _mm512_storeu_ps(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm512_mask_storeu_ps(p, m, x); }
  FEDFAST_OP void stream(T* p, Reg x) { _mm512_stream_ps(p, x); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }

  // Masked broadcasts use the load ports, which shuffles would leave idle.
  FEDFAST_OP Reg join(const T* p, int64_t step) {
    Reg x = _mm512_castps128_ps512(_mm_loadu_ps(p));
    x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps(p + step));
    x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps(p + 2 * step));
    return _mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps(p + 3 * step));
  }
  FEDFAST_OP void in_group(Reg (&t)[4]) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(t[0], t[1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(t[0], t[1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(t[2], t[3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(t[2], t[3]));
    t[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    t[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    t[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    t[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  FEDFAST_OP void add_lanes(const Reg (&x)[4], T* to) {
    const Reg a = _mm512_add_ps(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
    const Reg b = _mm512_add_ps(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
    const __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    const Reg e = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)),
                                _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
    const __m256 f = _mm256_add_ps(_mm512_castps512_ps256(e), _mm512_extractf32x8_ps(e, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(f), _mm256_extractf128_ps(f, 1)));
  }
};

struct Doubles {
  using T = double;
  using Reg = __m512d;
  using Mask = __mmask8;
  static constexpr int lanes = 8, rows = 14, group = 2, dot_rows = 12;

  FEDFAST_OP Mask mask(int64_t n) { return static_cast<Mask>((1u << n) - 1); }
  FEDFAST_OP Reg zero() { return _mm512_setzero_pd(); }
  FEDFAST_OP Reg broadcast(T x) { return _mm512_set1_pd(x); }
  FEDFAST_OP Reg load(const T* p) { return _mm512_loadu_pd(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm512_maskz_loadu_pd(m, p); }
  FEDFAST_OP void store(T* p, Reg x) { _mm512_storeu_pd(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm512_mask_storeu_pd(p, m, x); }
  FEDFAST_OP void stream(T* p, Reg x) { _mm512_stream_pd(p, x); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }

  FEDFAST_OP Reg join(const T* p, int64_t step) {
    Reg x = _mm512_castpd128_pd512(_mm_loadu_pd(p));
    x = _mm512_mask_broadcast_f64x2(x, 0x0c, _mm_loadu_pd(p + step));
    x = _mm512_mask_broadcast_f64x2(x, 0x30, _mm_loadu_pd(p + 2 * step));
    return _mm512_mask_broadcast_f64x2(x, 0xc0, _mm_loadu_pd(p + 3 * step));
  }
  FEDFAST_OP void in_group(Reg (&t)[2]) {
    const Reg low = _mm512_unpacklo_pd(t[0], t[1]);
    t[1] = _mm512_unpackhi_pd(t[0], t[1]);
    t[0] = low;
  }
  FEDFAST_OP void add_lanes(const Reg (&x)[2], T* to) {
    const Reg e = _mm512_add_pd(_mm512_unpacklo_pd(x[0], x[1]), _mm512_unpackhi_pd(x[0], x[1]));
    const __m256d f = _mm256_add_pd(_mm512_castpd512_pd256(e), _mm512_extractf64x4_pd(e, 1));
    _mm_storeu_pd(to, _mm_add_pd(_mm256_castpd256_pd128(f), _mm256_extractf128_pd(f, 1)));
  }
};

}  // namespace

bool avx512_kernels(Kernels<float>& kernels) { return fill<Floats>(kernels), true; }
bool avx512_kernels(Kernels<double>& kernels) { return fill<Doubles>(kernels), true; }

}  // namespace fedfast
#else
namespace fedfast {
bool avx512_kernels(Kernels<float>&) { return false; }
bool avx512_kernels(Kernels<double>&) { return false; }
}  // namespace fedfast
#endif
