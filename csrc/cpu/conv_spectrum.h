// Fourier transforms of squares of 16 x 16 pixels, and products of spectra, over any vector type V
// (see conv_tile.h).
//
// A square becomes nine rows of sixteen complex numbers, first the real parts, then the imaginary
// ones: row m holds the frequencies (m, l) across and down. Lane l = 0 .. 8 holds F(m, l), lane
// 8 + l with l = 1 .. 7 the conjugate of F(m, -l): products conjugated alike are conjugates.
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

// The spectra along the columns of a square whose rows are given; lanes of `mask` are read.
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

template <typename V, bool Short>
FEDFAST_TARGET void lift_spectrum(const SpectrumLift<typename V::T>& l) {
  using T = typename V::T;
  alignas(64) T one[kSquare], two[kSquare];
  alignas(64) static constexpr T none[kSpectrumSide] = {};
  const T* at[16];
  int64_t step[16];
  for (int i = 0; i < 16; ++i) {
    const bool inside = i >= l.top && i < l.top + l.rows;
    at[i] = inside ? l.from + (i - l.top) * l.row - l.left : none;
    step[i] = inside ? l.plane : 0;
  }
  typename V::Mask mask[16 / V::lanes];
  for (int o = 0; o < 16; o += V::lanes) mask[o / V::lanes] = V::span(l.left - o, l.columns);
  const typename V::Reg scale = V::broadcast(T{1} / 128);
  T* to = l.to;
  for (int64_t c = 0; c < l.count; ++c, to += l.to_step) {
    columns_spectrum<V, Short>(
        [&](int i, int o) FEDFAST_TARGET {
          const auto x = V::load(at[i] + o, mask[o / V::lanes]);
          at[i] += o + V::lanes == 16 ? step[i] : 0;
          return Short ? V::mul(scale, x) : x;
        },
        one);
    turn_square<V>(one, two);
    columns_spectrum<V, Short>(
        [&](int i, int o) FEDFAST_TARGET { return V::load(two + i * kSpectrumSide + o); }, one);
    join_parts<V, Short>(one, to, l.to_plane);
  }
}

template <typename V, bool Short>
FEDFAST_TARGET void drop_spectrum(const SpectrumDrop<typename V::T>& d) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  alignas(64) T one[kSquare], two[kSquare] = {};  // a window leaves half of it as it is
  typename V::Mask mask[16 / V::lanes];
  for (int o = 0; o < 16; o += V::lanes) mask[o / V::lanes] = V::span(-o, d.columns);
  const Reg scale = V::broadcast(T{1} / 128);
  const T* from = d.from;
  T* to = d.to;
  for (int64_t c = 0; c < d.count; ++c, from += d.from_step, to += d.plane) {
    part_spectra<V, Short>(from, d.from_plane, one);
    for (int o = 0; o < kSpectrumSide; o += V::lanes) {
      Reg y[16], x[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) y[i] = V::load(one + i * kSpectrumSide + o);
      from_spectrum<V, Short>(y, x);
#pragma GCC unroll 16
      for (int i = 0; i < (Short ? 8 : 16); ++i) V::store(two + i * kSpectrumSide + o, x[i]);
    }
    turn_square<V>(two, one);
    for (int o = 0; o < kSpectrumSide; o += V::lanes) {
      Reg y[16], x[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) y[i] = V::load(one + i * kSpectrumSide + o);
      from_spectrum<V, Short>(y, x);
#pragma GCC unroll 16
      for (int i = 0; i < (Short ? 8 : 16); ++i) {
        if (i < d.rows) {
          V::store(to + i * d.row + o, Short ? V::mul(scale, x[i]) : x[i], mask[o / V::lanes]);
        }
      }
    }
  }
}

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
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        T* c = t.c + (row + i) * t.c_a + j * t.c_b + o;
        re[i][j] = t.add ? V::load(c) : V::zero();
        im[i][j] = t.add ? V::load(c + kSpectrumSide) : V::zero();
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
