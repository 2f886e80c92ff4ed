// A convolution's tiles over any vector type V. Each conv_<isa>.cpp defines FEDFAST_TARGET, its
// vectors, and includes this once.
//
// V: T, Reg, Mask, lanes, mask(n), zero(), load(p), load(p, mask), store(p, x), store(p, x, mask),
// broadcast(x), add(a, b), sub(a, b), mul(a, b), fma(a, b, c), relu(x) that keeps NaN,
// transpose(from, from_row, to, to_row) of lanes x lanes elements; and the largest tiles:
// spots(vectors), row_channels, grad_channels, grad_taps, and spectra, the rows of a tile of
// spectra, 0 where there are none. With them V has fnma(a, b, c) = c - a * b, span(first, count):
// the mask of those lanes, seen(x): a bit for each lane that is not zero, and, of rows of sixteen,
// swapped(row, o): the lanes from o on of the row with its halves exchanged, lanes 0 and 8 zero,
// and low(o, a, b): lanes to 8 of a, from 9 on of b.
#pragma once

#include <utility>

#include "cpu/conv_kernels.h"
#include "cpu/conv_lift.h"
#include "cpu/conv_spectrum_lift.h"
#include "cpu/conv_spectrum_product.h"

namespace fedfast {
namespace {

template <typename V, int J, int N>
FEDFAST_TARGET void spot_tile(const Spots<typename V::T>& s) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  const T* x[J];
  Reg acc[J][N];
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j) {
    x[j] = s.x + s.at[j];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) acc[j][v] = V::zero();
  }
  const T* b = s.b;
  const int64_t b_row = s.b_row;
  for (const int32_t *deep = s.deep, *end = deep + s.depth; deep != end; ++deep, b += b_row) {
    const int64_t d = *deep;
    Reg bv[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) bv[v] = V::load(b + v * V::lanes);
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j) {
      const Reg xj = V::broadcast(x[j][d]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) acc[j][v] = V::fma(xj, bv[v], acc[j][v]);
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < J; ++j) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      T* c = s.c + (s.to != nullptr ? s.to[j] : j) * s.c_row + v * V::lanes;
      V::store(c, s.add ? V::add(V::load(c), acc[j][v]) : acc[j][v]);
    }
  }
}

template <typename V, int M, int S>
FEDFAST_TARGET void row_tile(const Rows<typename V::T>& r) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  const T* x[S];
  typename V::Mask mask[S];
  Reg acc[M][S];
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s) {
    x[s] = r.x + r.segments[s].from;
    mask[s] = V::mask(r.segments[s].length);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) acc[i][s] = r.bias ? V::broadcast(r.bias[i]) : V::zero();
  }
  const T* w = r.w;
  for (const int32_t *deep = r.deep, *end = deep + r.depth; deep != end; ++deep, w += M) {
    const int64_t d = *deep;
    Reg xv[S];
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) xv[s] = V::load(x[s] + d, mask[s]);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const Reg wi = V::broadcast(w[i]);
#pragma GCC unroll 4
      for (int s = 0; s < S; ++s) acc[i][s] = V::fma(wi, xv[s], acc[i][s]);
    }
  }
  const bool relu = r.relu;
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      const Reg y = relu ? V::relu(acc[i][s]) : acc[i][s];
      V::store(r.out + i * r.out_row + r.segments[s].to, y, mask[s]);
    }
  }
}

template <typename V, int M, int J>
FEDFAST_TARGET void grad_tile(const RowGrads<typename V::T>& r) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  const T* x[J];
  Reg acc[M][J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
    x[j] = r.x + r.at[j];
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) acc[i][j] = V::load(r.c + i * r.c_row + j * V::lanes);
  }
  for (const Segment *s = r.segments, *end = s + r.count; s != end; ++s) {
    const typename V::Mask mask = V::mask(s->length);
    const T* d = r.d + s->to;
    const int64_t from = s->from;
    Reg dv[M];
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) dv[i] = V::load(d + i * r.d_row, mask);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      const Reg xj = V::load(x[j] + from, mask);
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) acc[i][j] = V::fma(xj, dv[i], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) V::store(r.c + i * r.c_row + j * V::lanes, acc[i][j]);
  }
}

// Whole blocks in registers, what is left element by element. Blocks follow each other along the
// side whose rows lie further apart: few streams, each read or written in order.
template <typename V>
FEDFAST_TARGET void transpose(const typename V::T* from, int64_t from_row, int64_t rows,
                              int64_t columns, typename V::T* to, int64_t to_row) {
  const int64_t whole_rows = rows / V::lanes * V::lanes;
  const int64_t whole_columns = columns / V::lanes * V::lanes;
  const auto block = [&](int64_t i, int64_t j) FEDFAST_TARGET {
    V::transpose(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
  };
  if (from_row >= to_row) {
    for (int64_t i = 0; i < whole_rows; i += V::lanes) {
      for (int64_t j = 0; j < whole_columns; j += V::lanes) block(i, j);
    }
  } else {
    for (int64_t j = 0; j < whole_columns; j += V::lanes) {
      for (int64_t i = 0; i < whole_rows; i += V::lanes) block(i, j);
    }
  }
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t done = j < whole_columns ? whole_rows : 0;
    for (int64_t i = done; i < rows; ++i) to[j * to_row + i] = from[i * from_row + j];
  }
}

template <typename V, int J, int N>
void fill_spot(ConvKernels<typename V::T>& kernels) {
  if constexpr (J <= V::spots(N)) kernels.spot[J][N] = spot_tile<V, J, N>;
}

template <typename V, int J, int... N>
void fill_spots(ConvKernels<typename V::T>& kernels, std::integer_sequence<int, N...>) {
  (fill_spot<V, J, N + 1>(kernels), ...);
}

template <typename V, int M, int... S>
void fill_rows(ConvKernels<typename V::T>& kernels, std::integer_sequence<int, S...>) {
  ((kernels.row[M][S + 1] = row_tile<V, M, S + 1>), ...);
}

template <typename V, int M, int... J>
void fill_grads(ConvKernels<typename V::T>& kernels, std::integer_sequence<int, J...>) {
  ((kernels.grad[M][J + 1] = grad_tile<V, M, J + 1>), ...);
}

template <int N>
using Counted = std::make_integer_sequence<int, N>;

template <typename V, int... I>
void fill_spot_tiles(ConvKernels<typename V::T>& kernels, std::integer_sequence<int, I...>) {
  (fill_spots<V, I + 1>(kernels, Counted<kMaxSpotVectors>{}), ...);
}

template <typename V, int... I>
void fill_row_tiles(ConvKernels<typename V::T>& kernels, std::integer_sequence<int, I...>) {
  (fill_rows<V, I + 1>(kernels, Counted<kMaxRowSegments>{}), ...);
}

template <typename V, int... I>
void fill_grad_tiles(ConvKernels<typename V::T>& kernels, std::integer_sequence<int, I...>) {
  (fill_grads<V, I + 1>(kernels, Counted<V::grad_taps>{}), ...);
}

template <typename V>
void fill_spectra(ConvKernels<typename V::T>& kernels) {
  kernels.lift_square = lift_square<V>;
  kernels.lift_windows = lift_windows<V>;
  kernels.drop_square = drop_square<V>;
  kernels.drop_windows = drop_windows<V>;
  kernels.spectra[1] = spectra_tiles<V, 1>;
  kernels.spectra[2] = spectra_tiles<V, 2>;
  kernels.see = see_pixels<V>;
}

template <typename V>
void fill(ConvKernels<typename V::T>& kernels) {
  kernels = {};
  kernels.lanes = V::lanes;
  for (int n = 1; n <= kMaxSpotVectors; ++n) {
    kernels.spots[n] = V::spots(n);
    if (V::spots(n) > 0) kernels.vectors = n;
  }
  kernels.row_channels = V::row_channels;
  kernels.grad_channels = V::grad_channels;
  kernels.grad_taps = V::grad_taps;
  fill_spot_tiles<V>(kernels, Counted<kMaxSpots>{});
  fill_row_tiles<V>(kernels, Counted<V::row_channels>{});
  fill_grad_tiles<V>(kernels, Counted<V::grad_channels>{});
  kernels.lift_pixels = lift<V, PixelStep>;
  kernels.lift_results = lift<V, ResultStep>;
  kernels.lift_taps = lift<V, TapStep>;
  kernels.drop_results = drop<V, ResultBack>;
  kernels.drop_taps = drop<V, TapBack>;
  kernels.drop_pixels = drop<V, PixelBack, true>;
  kernels.transpose = transpose<V>;
  if constexpr (V::spectra > 0) fill_spectra<V>(kernels);
}

}  // namespace
}  // namespace fedfast
