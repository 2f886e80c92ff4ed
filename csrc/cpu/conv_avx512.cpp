// Tiles of 24 sums: 24 of 32 registers.
#include "cpu/conv_kernels.h"
#include "cpu/isa.h"

#if defined(__x86_64__) && defined(__GNUC__)
// GCC 12's own header leaves a register undefined on purpose and warns about it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define FEDFAST_TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma")))
#include "cpu/conv_tile.h"

#define FEDFAST_OP FEDFAST_TARGET static FEDFAST_INLINE

namespace fedfast {
namespace {

struct Tiles {
  static constexpr int spots(int vectors) { return vectors == 4 ? 6 : 8; }
  static constexpr int row_channels = 8, grad_channels = 4, grad_taps = 6;
};

struct Floats : Tiles {
  static constexpr int spectra = 4;
  using T = float;
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr int lanes = 16;
  FEDFAST_OP Mask mask(int64_t n) { return static_cast<Mask>((1u << n) - 1); }
  FEDFAST_OP Reg zero() { return _mm512_setzero_ps(); }
  FEDFAST_OP Reg load(const T* p) { return _mm512_loadu_ps(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
  FEDFAST_OP void store(T* p, Reg x) { _mm512_storeu_ps(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm512_mask_storeu_ps(p, m, x); }
  FEDFAST_OP Reg broadcast(T x) { return _mm512_set1_ps(x); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  FEDFAST_OP Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  FEDFAST_OP Reg fnma(Reg a, Reg b, Reg c) { return _mm512_fnmadd_ps(a, b, c); }
  FEDFAST_OP Reg relu(Reg x) { return _mm512_max_ps(zero(), x); }
  FEDFAST_OP Mask span(int first, int count) {
    return static_cast<Mask>(((1u << count) - 1) << first);
  }
  FEDFAST_OP uint32_t seen(Reg x) { return _mm512_cmp_ps_mask(x, zero(), _CMP_NEQ_UQ); }
  FEDFAST_OP Reg swapped(const T* row, int) {
    const Reg x = load(row);
    return _mm512_maskz_shuffle_f32x4(0xfefe, x, x, 0x4e);
  }
  FEDFAST_OP Reg low(int, Reg a, Reg b) { return _mm512_mask_blend_ps(0xfe00, a, b); }

  // Pairs, quadruples, then 128-bit pieces change places.
  FEDFAST_OP void transpose(const T* from, int64_t from_row, T* to, int64_t to_row) {
    __m512 r[16], t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = load(from + i * from_row);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 2]);
      const __m512d c = _mm512_castps_pd(t[i + 1]), d = _mm512_castps_pd(t[i + 3]);
      r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
      r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
      r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512 low = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
      const __m512 high = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
      const __m512 low2 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
      const __m512 high2 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
      store(to + i * to_row, _mm512_shuffle_f32x4(low, low2, 0x88));
      store(to + (i + 4) * to_row, _mm512_shuffle_f32x4(high, high2, 0x88));
      store(to + (i + 8) * to_row, _mm512_shuffle_f32x4(low, low2, 0xdd));
      store(to + (i + 12) * to_row, _mm512_shuffle_f32x4(high, high2, 0xdd));
    }
  }
};

struct Doubles : Tiles {
  static constexpr int spectra = 0;
  using T = double;
  using Reg = __m512d;
  using Mask = __mmask8;
  static constexpr int lanes = 8;
  FEDFAST_OP Mask mask(int64_t n) { return static_cast<Mask>((1u << n) - 1); }
  FEDFAST_OP Reg zero() { return _mm512_setzero_pd(); }
  FEDFAST_OP Reg load(const T* p) { return _mm512_loadu_pd(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm512_maskz_loadu_pd(m, p); }
  FEDFAST_OP void store(T* p, Reg x) { _mm512_storeu_pd(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm512_mask_storeu_pd(p, m, x); }
  FEDFAST_OP Reg broadcast(T x) { return _mm512_set1_pd(x); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  FEDFAST_OP Reg sub(Reg a, Reg b) { return _mm512_sub_pd(a, b); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  FEDFAST_OP Reg relu(Reg x) { return _mm512_max_pd(zero(), x); }

  FEDFAST_OP void transpose(const T* from, int64_t from_row, T* to, int64_t to_row) {
    __m512d t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      const __m512d a = load(from + i * from_row), b = load(from + (i + 1) * from_row);
      t[i] = _mm512_unpacklo_pd(a, b);
      t[i + 1] = _mm512_unpackhi_pd(a, b);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512d low = _mm512_shuffle_f64x2(t[i], t[i + 2], 0x88);
      const __m512d high = _mm512_shuffle_f64x2(t[i], t[i + 2], 0xdd);
      const __m512d low2 = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0x88);
      const __m512d high2 = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0xdd);
      store(to + i * to_row, _mm512_shuffle_f64x2(low, low2, 0x88));
      store(to + (i + 2) * to_row, _mm512_shuffle_f64x2(high, high2, 0x88));
      store(to + (i + 4) * to_row, _mm512_shuffle_f64x2(low, low2, 0xdd));
      store(to + (i + 6) * to_row, _mm512_shuffle_f64x2(high, high2, 0xdd));
    }
  }
};

template <typename V>
bool give(ConvKernels<typename V::T>& kernels) {
  fill<V>(kernels);
  return true;
}

}  // namespace

bool avx512_kernels(ConvKernels<float>& kernels) { return give<Floats>(kernels); }
bool avx512_kernels(ConvKernels<double>& kernels) { return give<Doubles>(kernels); }

}  // namespace fedfast

#else

namespace fedfast {

bool avx512_kernels(ConvKernels<float>&) { return false; }
bool avx512_kernels(ConvKernels<double>&) { return false; }

}  // namespace fedfast

#endif
