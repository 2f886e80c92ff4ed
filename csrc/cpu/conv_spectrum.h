// Fourier transforms of squares of 16 x 16 pixels, step by step, over any vector type V (see
// conv_tile.h).
//
// A square becomes nine rows of sixteen complex numbers, first the real parts, then the imaginary
// ones. Row m is of frequency m along the rows of the square; in it lane l = 0 .. 8 holds F(m, l),
// with l the frequency along columns, lane 8 + l with l = 1 .. 7 the conjugate of F(m, -l):
// products of conjugates are conjugates.
#pragma once

#include "cpu/conv_fourier.h"

namespace fedfast {
namespace {

constexpr int kSquare = kSpectrumSide * kSpectrumSide;

// Transposes a square.
template <typename V, typename T>
FEDFAST_TARGET FEDFAST_INLINE void turn_square(const T* from, T* to) {
  for (int i = 0; i < kSpectrumSide; i += V::lanes) {
    for (int j = 0; j < kSpectrumSide; j += V::lanes) {
      V::transpose(from + i * kSpectrumSide + j, kSpectrumSide, to + j * kSpectrumSide + i,
                   kSpectrumSide);
    }
  }
}

// The spectra of the columns of a square whose rows are given, as vectors from lane o on; `Short`
// has but eight rows.
template <typename V, bool Short, typename Row>
FEDFAST_TARGET FEDFAST_INLINE void columns_spectrum(const Row& row, typename V::T* to) {
  for (int o = 0; o < kSpectrumSide; o += V::lanes) {
    typename V::Reg x[16], y[16];
#pragma GCC unroll 16
    for (int i = 0; i < (Short ? 8 : 16); ++i) x[i] = row(i, o);
    spectrum<V, Short>(x, y);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) V::store(to + i * kSpectrumSide + o, y[i]);
  }
}

// Real spectra of the real and imaginary parts of columns, `half`, to complex ones. With R the
// spectrum of lane l's real part (lanes 0 .. 8), I of its imaginary part (8 + l):
// F(m, l) = R + i I, and the conjugate of F(m, -l) is conj(R) - i conj(I).
template <typename V, bool Scaled>
FEDFAST_TARGET FEDFAST_INLINE void join_parts(const typename V::T* half, typename V::T* to,
                                              int64_t plane) {
  using Reg = typename V::Reg;
#pragma GCC unroll 9
  for (int m = 0; m < kSpectrumRows; ++m) {
    const bool real = m == 0 || m == 8;
    const auto *re = half + m * kSpectrumSide, *im = half + (m + 8) * kSpectrumSide;
#pragma GCC unroll 2
    for (int o = 0; o < kSpectrumSide; o += V::lanes) {
      Reg d = V::load(re + o), e = V::swapped(re, o);
      if (!real) {
        d = V::sub(d, V::swapped(im, o));
        e = V::add(V::load(im + o), e);
      }
      Reg joined = V::low(o, d, e), other = V::low(o, e, d);
      if (Scaled && real) {
        joined = V::mul(V::broadcast(0.5), joined);
        other = V::mul(V::broadcast(0.5), other);
      }
      V::store(to + m * plane + o, joined);
      V::store(to + m * plane + kSpectrumSide + o, other);
    }
  }
}

// Its transpose; `Scaled` weighs the rows that stand for themselves alone by a half.
template <typename V, bool Scaled>
FEDFAST_TARGET FEDFAST_INLINE void part_spectra(const typename V::T* from, int64_t plane,
                                                typename V::T* half) {
  using Reg = typename V::Reg;
#pragma GCC unroll 9
  for (int m = 0; m < kSpectrumRows; ++m) {
    const bool real = m == 0 || m == 8;
    typename V::T parts[2][kSpectrumSide];
#pragma GCC unroll 2
    for (int o = 0; o < kSpectrumSide; o += V::lanes) {
      const Reg re = V::load(from + m * plane + o), im = V::load(from + m * plane + 16 + o);
      V::store(parts[0] + o, V::low(o, re, im));
      V::store(parts[1] + o, V::low(o, im, re));
    }
#pragma GCC unroll 2
    for (int o = 0; o < kSpectrumSide; o += V::lanes) {
      Reg re = V::add(V::load(parts[0] + o), V::swapped(parts[1], o));
      if (Scaled && real) re = V::mul(V::broadcast(0.5), re);
      V::store(half + m * kSpectrumSide + o, re);
      if (real) continue;
      V::store(half + (m + 8) * kSpectrumSide + o,
               V::sub(V::load(parts[1] + o), V::swapped(parts[0], o)));
    }
  }
}

// Real transforms back, of the columns of a square; `Short` leaves rows from 8 on as they are.
template <typename V, bool Short, typename Write>
FEDFAST_TARGET FEDFAST_INLINE void columns_back(const typename V::T* from, const Write& write) {
  for (int o = 0; o < kSpectrumSide; o += V::lanes) {
    typename V::Reg y[16], x[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) y[i] = V::load(from + i * kSpectrumSide + o);
    from_spectrum<V, Short>(y, x);
#pragma GCC unroll 16
    for (int i = 0; i < (Short ? 8 : 16); ++i) write(i, o, x[i]);
  }
}

}  // namespace
}  // namespace fedfast
