// Products of spectra, frequency by frequency, over any vector type V (see conv_tile.h).
#pragma once

#include "cpu/conv_kernels.h"

namespace fedfast {
namespace {

// A x B complex sums of sixteen frequencies, `lanes` of them at a time.
template <typename V, int A, int B>
FEDFAST_TARGET FEDFAST_INLINE void spectra_tile(const SpectraTile<typename V::T>& t, int row) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  constexpr int number = 2 * kSpectrumSide;
  for (int o = 0; o < kSpectrumSide; o += V::lanes) {
    const T *a = t.a + row * number + o, *b = t.b + o;
    Reg re[A][B], im[A][B];
#pragma GCC unroll 4
    for (int i = 0; i < A; ++i) {
      const bool adds = t.add && row + i < t.rows;
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        T* c = t.c + (row + i) * t.c_a + j * t.c_b + o;
        re[i][j] = adds ? V::load(c) : V::zero();
        im[i][j] = adds ? V::load(c + kSpectrumSide) : V::zero();
      }
    }
    for (int64_t d = 0; d < t.depth; ++d, a += kSpectraA * number, b += B * number) {
      Reg xr[B], xi[B];
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        xr[j] = V::load(b + j * number);
        xi[j] = V::load(b + j * number + kSpectrumSide);
      }
#pragma GCC unroll 4
      for (int i = 0; i < A; ++i) {
        const Reg wr = V::load(a + i * number), wi = V::load(a + i * number + kSpectrumSide);
#pragma GCC unroll 4
        for (int j = 0; j < B; ++j) {
          re[i][j] = V::fma(xr[j], wr, re[i][j]);
          im[i][j] = V::fma(xi[j], wr, im[i][j]);
        }
#pragma GCC unroll 4
        for (int j = 0; j < B; ++j) {
          re[i][j] = V::fma(xi[j], wi, re[i][j]);
          im[i][j] = V::fnma(xr[j], wi, im[i][j]);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < A; ++i) {
      if (row + i >= t.rows) break;
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        T* c = t.c + (row + i) * t.c_a + j * t.c_b + o;
        V::store(c, re[i][j]);
        V::store(c + kSpectrumSide, im[i][j]);
      }
    }
  }
}

template <typename V, int B>
FEDFAST_TARGET void spectra_tiles(const SpectraTile<typename V::T>& t) {
#pragma GCC unroll 2
  for (int row = 0; row < kSpectraA; row += V::spectra) spectra_tile<V, V::spectra, B>(t, row);
}

// Bit j of seen[i] is set where a plane has a pixel that is not zero.
template <typename V>
FEDFAST_TARGET void see_pixels(const typename V::T* plane, int64_t row, int64_t rows,
                               int64_t columns, uint32_t* seen) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int o = 0; o < kSpectrumSide; o += V::lanes) {
      const auto x = V::load(plane + i * row + o, V::span(-o, static_cast<int>(columns)));
      seen[i] |= V::seen(x) << o;
    }
  }
}

}  // namespace
}  // namespace fedfast
