// Tiles of 12 sums: 12 of 16 registers.
#include "cpu/conv_kernels.h"
#include "cpu/isa.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define FEDFAST_TARGET __attribute__((target("avx2,fma")))
#include "cpu/conv_tile.h"

#define FEDFAST_OP FEDFAST_TARGET static FEDFAST_INLINE

namespace fedfast {
namespace {

struct Tiles {
  static constexpr int spots(int vectors) { return vectors <= 2 ? 6 : 0; }
  static constexpr int row_channels = 4, grad_channels = 3, grad_taps = 3;
};

struct Floats : Tiles {
  static constexpr int spectra = 2;
  using T = float;
  using Reg = __m256;
  using Mask = __m256i;
  static constexpr int lanes = 8;

  FEDFAST_OP Mask mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  FEDFAST_OP Reg zero() { return _mm256_setzero_ps(); }
  FEDFAST_OP Reg load(const T* p) { return _mm256_loadu_ps(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm256_maskload_ps(p, m); }
  FEDFAST_OP void store(T* p, Reg x) { _mm256_storeu_ps(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm256_maskstore_ps(p, m, x); }
  FEDFAST_OP Reg broadcast(T x) { return _mm256_set1_ps(x); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  FEDFAST_OP Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  FEDFAST_OP Reg fnma(Reg a, Reg b, Reg c) { return _mm256_fnmadd_ps(a, b, c); }
  FEDFAST_OP Reg relu(Reg x) { return _mm256_max_ps(zero(), x); }
  FEDFAST_OP Mask span(int first, int count) {
    return _mm256_andnot_si256(mask(first), mask(first + count));
  }
  FEDFAST_OP uint32_t seen(Reg x) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, zero(), _CMP_NEQ_UQ)));
  }
  FEDFAST_OP Reg swapped(const T* row, int o) {
    return load(row + (o ^ 8), _mm256_setr_epi32(0, -1, -1, -1, -1, -1, -1, -1));
  }
  FEDFAST_OP Reg low(int o, Reg a, Reg b) { return o == 0 ? a : _mm256_blend_ps(a, b, 0xfe); }

  FEDFAST_OP void transpose(const T* from, int64_t from_row, T* to, int64_t to_row) {
    __m256 r[8], t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = load(from + i * from_row);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      store(to + i * to_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
      store(to + (i + 4) * to_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
  }
};

struct Doubles : Tiles {
  static constexpr int spectra = 0;
  using T = double;
  using Reg = __m256d;
  using Mask = __m256i;
  static constexpr int lanes = 4;

  FEDFAST_OP Mask mask(int64_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  FEDFAST_OP Reg zero() { return _mm256_setzero_pd(); }
  FEDFAST_OP Reg load(const T* p) { return _mm256_loadu_pd(p); }
  FEDFAST_OP Reg load(const T* p, Mask m) { return _mm256_maskload_pd(p, m); }
  FEDFAST_OP void store(T* p, Reg x) { _mm256_storeu_pd(p, x); }
  FEDFAST_OP void store(T* p, Reg x, Mask m) { _mm256_maskstore_pd(p, m, x); }
  FEDFAST_OP Reg broadcast(T x) { return _mm256_set1_pd(x); }
  FEDFAST_OP Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  FEDFAST_OP Reg sub(Reg a, Reg b) { return _mm256_sub_pd(a, b); }
  FEDFAST_OP Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  FEDFAST_OP Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  FEDFAST_OP Reg relu(Reg x) { return _mm256_max_pd(zero(), x); }

  FEDFAST_OP void transpose(const T* from, int64_t from_row, T* to, int64_t to_row) {
    const __m256d a = load(from), b = load(from + from_row);
    const __m256d c = load(from + 2 * from_row), d = load(from + 3 * from_row);
    const __m256d ab = _mm256_unpacklo_pd(a, b), ab2 = _mm256_unpackhi_pd(a, b);
    const __m256d cd = _mm256_unpacklo_pd(c, d), cd2 = _mm256_unpackhi_pd(c, d);
    store(to, _mm256_permute2f128_pd(ab, cd, 0x20));
    store(to + to_row, _mm256_permute2f128_pd(ab2, cd2, 0x20));
    store(to + 2 * to_row, _mm256_permute2f128_pd(ab, cd, 0x31));
    store(to + 3 * to_row, _mm256_permute2f128_pd(ab2, cd2, 0x31));
  }
};

template <typename V>
bool give(ConvKernels<typename V::T>& kernels) {
  fill<V>(kernels);
  return true;
}

}  // namespace

bool avx2_kernels(ConvKernels<float>& kernels) { return give<Floats>(kernels); }
bool avx2_kernels(ConvKernels<double>& kernels) { return give<Doubles>(kernels); }

}  // namespace fedfast

#else

namespace fedfast {

bool avx2_kernels(ConvKernels<float>&) { return false; }
bool avx2_kernels(ConvKernels<double>&) { return false; }

}  // namespace fedfast

#endif
