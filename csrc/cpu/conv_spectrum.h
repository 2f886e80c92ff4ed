// Fourier transforms of squares of 16 x 16 pixels, and products of spectra, over any vector type V
// (see conv_tile.h).
//
// A square becomes nine rows of sixteen complex numbers, first the real parts, then the imaginary
// ones: row m holds the frequencies (m, l) across and down. Lane l = 0 .. 8 holds F(m, l), lane
// 8 + l with l = 1 .. 7 the conjugate of F(m, -l): products conjugated alike are conjugates.
#pragma once

#include <algorithm>

#include "cpu/conv_fourier.h"

namespace fedfast {
namespace {

constexpr int kSquare = kSpectrumSide * kSpectrumSide;
template <typename T>
alignas(64) constexpr T kNoPixels[kSpectrumSide] = {};

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

template <typename V>
FEDFAST_TARGET void lift_square(const SpectrumLift<typename V::T>& l) {
  using T = typename V::T;
  alignas(64) T one[kSquare], two[kSquare];
  const T* at[kSpectrumSide];
  int64_t step[kSpectrumSide];
  for (int i = 0; i < kSpectrumSide; ++i) {
    const bool inside = i >= l.top && i < l.top + l.rows;
    at[i] = inside ? l.from + (i - l.top) * l.row - l.left : kNoPixels<T>;
    step[i] = inside ? l.plane : 0;
  }
  typename V::Mask mask[kSpectrumSide / V::lanes];
  for (int o = 0; o < kSpectrumSide; o += V::lanes) {
    mask[o / V::lanes] = V::span(l.left - o, l.columns);
  }
  T* to = l.to;
  for (int64_t c = 0; c < l.count; ++c, to += l.to_step) {
    columns_spectrum<V, false>(
        [&](int i, int o)
            FEDFAST_TARGET { return V::load(at[i] + c * step[i] + o, mask[o / V::lanes]); },
        one);
    turn_square<V>(one, two);
    columns_spectrum<V, false>(
        [&](int i, int o) FEDFAST_TARGET { return V::load(two + i * kSpectrumSide + o); }, one);
    join_parts<V, false>(one, to, l.to_plane);
  }
}

// Windows are narrow: as many as fit lie side by side on the way down, the transform across is of
// each one's own columns.
template <typename V>
FEDFAST_TARGET void lift_windows(const SpectrumLift<typename V::T>& l) {
  using T = typename V::T;
  alignas(64) T one[kSquare], two[kSquare];
  const int most = kSpectrumSide / l.columns;
  const typename V::Reg scale = V::broadcast(T{1} / 128);
  T* to = l.to;
  for (int64_t first = 0; first < l.count; first += most) {
    const int together = static_cast<int>(std::min<int64_t>(most, l.count - first));
    const T* from = l.from + first * l.plane;
    const auto row = [&](int i, int o) FEDFAST_TARGET {
      typename V::Reg x = V::zero();
      if (i >= l.rows) return x;
      for (int w = 0; w < together; ++w) {
        const int left = w * l.columns;
        x = V::add(
            x, V::load(from + w * l.plane + i * l.row - left + o, V::span(left - o, l.columns)));
      }
      return V::mul(scale, x);
    };
    columns_spectrum<V, true>(row, one);
    turn_square<V>(one, two);
    for (int w = 0; w < together; ++w, to += l.to_step) {
      const T* own = two + w * l.columns * kSpectrumSide;
      const auto column = [&](int i, int o) FEDFAST_TARGET {
        return V::load((i < l.columns ? own + i * kSpectrumSide : kNoPixels<T>)+o);
      };
      columns_spectrum<V, true>(column, one);
      join_parts<V, true>(one, to, l.to_plane);
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

template <typename V>
FEDFAST_TARGET void drop_square(const SpectrumDrop<typename V::T>& d) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  alignas(64) T one[kSquare], two[kSquare];
  typename V::Mask mask[kSpectrumSide / V::lanes];
  for (int o = 0; o < kSpectrumSide; o += V::lanes) mask[o / V::lanes] = V::span(-o, d.columns);
  const T* from = d.from;
  T* to = d.to;
  for (int64_t c = 0; c < d.count; ++c, from += d.from_step, to += d.plane) {
    part_spectra<V, false>(from, d.from_plane, one);
    columns_back<V, false>(
        one, [&](int i, int o, Reg x) FEDFAST_TARGET { V::store(two + i * kSpectrumSide + o, x); });
    turn_square<V>(two, one);
    const Reg bias = d.bias != nullptr ? V::broadcast(d.bias[c]) : V::zero();
    columns_back<V, false>(one, [&](int i, int o, Reg x) FEDFAST_TARGET {
      if (i >= d.rows) return;
      if (d.bias != nullptr) x = V::add(x, bias);
      V::store(to + i * d.row + o, d.relu ? V::relu(x) : x, mask[o / V::lanes]);
    });
  }
}

template <typename V>
FEDFAST_TARGET void drop_windows(const SpectrumDrop<typename V::T>& d) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  alignas(64) T one[kSquare], two[kSquare] = {};
  const int most = kSpectrumSide / d.columns;
  const Reg scale = V::broadcast(T{1} / 128);
  const T* from = d.from;
  for (int64_t first = 0; first < d.count; first += most) {
    const int together = static_cast<int>(std::min<int64_t>(most, d.count - first));
    for (int w = 0; w < together; ++w, from += d.from_step) {
      T* own = two + w * d.columns * kSpectrumSide;
      part_spectra<V, true>(from, d.from_plane, one);
      columns_back<V, true>(one, [&](int i, int o, Reg x) FEDFAST_TARGET {
        if (i < d.columns) V::store(own + i * kSpectrumSide + o, V::mul(scale, x));
      });
    }
    turn_square<V>(two, one);
    T* to = d.to + first * d.plane;
    columns_back<V, true>(one, [&](int i, int o, Reg x) FEDFAST_TARGET {
      if (i >= d.rows) return;
      for (int w = 0; w < together; ++w) {
        const int left = w * d.columns;
        V::store(to + w * d.plane + i * d.row - left + o, x, V::span(left - o, d.columns));
      }
    });
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
