// A tile's product and packing over any vector type V. Each gemm_<isa>.cpp defines FEDFAST_TARGET,
// its vectors, and includes this once.
//
// V: T, Reg, Mask, lanes, rows (of the largest tile), mask(n), zero(), load(p), load(p, mask),
// store(p, x), store(p, x, mask), broadcast(x), mul(a, b), fma(a, b, c), and for transposing:
// group (elements of 16 bytes), join(p, step): 16 bytes from each of p, p + step, ..., and
// in_group(t): the transpose of group x group elements in each 16 bytes. For dots: dot_rows, and
// add_lanes(x, to): the sum of each of `group` vectors.
#pragma once

#include <algorithm>
#include <utility>

#include "cpu/gemm.h"
#include "cpu/isa.h"

#if defined(__clang__)
#define FEDFAST_UNROLL _Pragma("unroll")
#else
#define FEDFAST_UNROLL _Pragma("GCC unroll 16")
#endif

namespace fedfast {
namespace {

// Asks for N vectors in the second cache, or in the first (Near 3); past the end of a matrix this
// is harmless.
template <typename V, int N, int Near = 2>
FEDFAST_TARGET FEDFAST_INLINE void fetch(const typename V::T* p) {
  for (int v = 0; v < N; ++v) __builtin_prefetch(p + v * V::lanes, 0, Near);
}

// c = alpha * acc, plus beta * c0 and gamma * d where these are read.
template <typename V, int N, bool Reads, bool Adds>
FEDFAST_TARGET FEDFAST_INLINE void store_row(const typename V::Reg (&acc)[N], typename V::Mask mask,
                                             typename V::Reg alpha, typename V::Reg beta,
                                             typename V::Reg gamma, const typename V::T* c0,
                                             const typename V::T* d, typename V::T* c) {
  FEDFAST_UNROLL
  for (int v = 0; v < N - 1; ++v) {
    const int at = v * V::lanes;
    typename V::Reg x = V::mul(alpha, acc[v]);
    if constexpr (Adds) x = V::fma(gamma, V::load(d + at), x);
    if constexpr (Reads) x = V::fma(beta, V::load(c0 + at), x);
    V::store(c + at, x);
  }
  constexpr int at = (N - 1) * V::lanes;
  typename V::Reg x = V::mul(alpha, acc[N - 1]);
  if constexpr (Adds) x = V::fma(gamma, V::load(d + at, mask), x);
  if constexpr (Reads) x = V::fma(beta, V::load(c0 + at, mask), x);
  V::store(c + at, x, mask);
}

// All rows of a tile.
template <typename V, int R, int N, bool Reads, bool Adds>
FEDFAST_TARGET FEDFAST_INLINE void store_tile(const typename V::Reg (&acc)[R][N],
                                              typename V::Mask mask,
                                              const Sum<typename V::T>& sum) {
  const typename V::Reg alpha = V::broadcast(sum.alpha), beta = V::broadcast(sum.beta);
  const typename V::Reg gamma = V::broadcast(sum.gamma);
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) {
    const typename V::T* c0 = Reads ? sum.c0 + r * sum.c0_row : nullptr;
    const typename V::T* d = Adds ? sum.d + r * sum.d_row : nullptr;
    store_row<V, N, Reads, Adds>(acc[r], mask, alpha, beta, gamma, c0, d, sum.c + r * sum.c_row);
  }
}

template <typename V, int R, int N>
FEDFAST_TARGET void tile(int64_t k, const typename V::T* a, const typename V::T* b, int64_t b_step,
                         int64_t columns, const Sum<typename V::T>& sum) {
  const typename V::Mask mask = V::mask(columns - (N - 1) * V::lanes);
  typename V::Reg acc[R][N];
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) {
    FEDFAST_UNROLL
    for (int v = 0; v < N; ++v) acc[r][v] = V::zero();
  }
  if (sum.beta != 0) {  // what the next tile to the right adds to
    for (int r = 0; r < R; ++r) fetch<V, N>(sum.c0 + r * sum.c0_row + N * V::lanes);
  }
  if (sum.d != nullptr) {
    for (int r = 0; r < R; ++r) fetch<V, N>(sum.d + r * sum.d_row + N * V::lanes);
  }
  for (int64_t p = 0; p < k; ++p, a += R, b += b_step) {
    typename V::Reg bv[N];
    FEDFAST_UNROLL
    for (int v = 0; v < N - 1; ++v) bv[v] = V::load(b + v * V::lanes);
    bv[N - 1] = V::load(b + (N - 1) * V::lanes, mask);
    fetch<V, N, 3>(b + N * V::lanes);  // the next panel, where b lies in memory
    FEDFAST_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename V::Reg ar = V::broadcast(a[r]);
      FEDFAST_UNROLL
      for (int v = 0; v < N; ++v) acc[r][v] = V::fma(ar, bv[v], acc[r][v]);
    }
  }
  if (sum.beta == 0) {
    return sum.d == nullptr ? store_tile<V, R, N, false, false>(acc, mask, sum)
                            : store_tile<V, R, N, false, true>(acc, mask, sum);
  }
  sum.d == nullptr ? store_tile<V, R, N, true, false>(acc, mask, sum)
                   : store_tile<V, R, N, true, true>(acc, mask, sum);
}

// Both operands contiguous along k, nothing packed: sums are spread over a vector's lanes and added
// at the end. Columns beyond the last are computed as the last again and not stored.
template <typename V, int R>
FEDFAST_TARGET void dots(int64_t k, const typename V::T* a, int64_t a_row, const typename V::T* b,
                         int64_t b_row, int64_t columns, const Sum<typename V::T>& sum) {
  using T = typename V::T;
  constexpr int Q = V::group;
  const T* bq[Q];
  for (int q = 0; q < Q; ++q) bq[q] = b + std::min<int64_t>(q, columns - 1) * b_row;
  typename V::Reg acc[R][Q];
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) {
    FEDFAST_UNROLL
    for (int q = 0; q < Q; ++q) acc[r][q] = V::zero();
  }
  int64_t p = 0;
  for (; p + V::lanes <= k; p += V::lanes) {
    typename V::Reg bv[Q];
    FEDFAST_UNROLL
    for (int q = 0; q < Q; ++q) bv[q] = V::load(bq[q] + p);
    FEDFAST_UNROLL
    for (int q = 0; q < Q; ++q) __builtin_prefetch(bq[q] + p + Q * b_row, 0, 2);
    const T* ar = a + p;
    FEDFAST_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename V::Reg av = V::load(ar + r * a_row);
      FEDFAST_UNROLL
      for (int q = 0; q < Q; ++q) acc[r][q] = V::fma(av, bv[q], acc[r][q]);
    }
  }
  if (p < k) {
    const typename V::Mask mask = V::mask(k - p);
    FEDFAST_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename V::Reg av = V::load(a + p + r * a_row, mask);
      FEDFAST_UNROLL
      for (int q = 0; q < Q; ++q) acc[r][q] = V::fma(av, V::load(bq[q] + p, mask), acc[r][q]);
    }
  }
  T total[R][Q];
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) V::add_lanes(acc[r], total[r]);
  for (int r = 0; r < R; ++r) {
    T* c = sum.c + r * sum.c_row;
    for (int q = 0; q < columns; ++q) {
      const T product = sum.alpha * total[r][q];
      c[q] = sum.beta == 0 ? product : sum.beta * sum.c0[r * sum.c0_row + q] + product;
    }
  }
}

// Rows of a where they lie, an element of each at a time, over whole vectors of b.
template <typename V, int R, int N>
FEDFAST_TARGET void broad(int64_t k, const typename V::T* a, int64_t a_row, const typename V::T* b,
                          const typename V::T* start, typename V::T* c) {
  constexpr int width = N * V::lanes;
  typename V::Reg acc[R][N];
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) {
    FEDFAST_UNROLL
    for (int v = 0; v < N; ++v) {
      acc[r][v] = start == c ? V::load(c + r * width + v * V::lanes)
                             : V::broadcast(start ? start[r] : typename V::T{0});
    }
  }
  for (int64_t p = 0; p < k; ++p, b += width) {
    typename V::Reg bv[N];
    FEDFAST_UNROLL
    for (int v = 0; v < N; ++v) bv[v] = V::load(b + v * V::lanes);
    FEDFAST_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename V::Reg ar = V::broadcast(a[r * a_row + p]);
      FEDFAST_UNROLL
      for (int v = 0; v < N; ++v) acc[r][v] = V::fma(ar, bv[v], acc[r][v]);
    }
  }
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) {
    FEDFAST_UNROLL
    for (int v = 0; v < N; ++v) V::store(c + r * width + v * V::lanes, acc[r][v]);
  }
}

// Panels of a matrix that is contiguous along the panel: rows are copied.
template <typename V>
FEDFAST_TARGET void pack_along(const typename V::T* from, int64_t deep, int64_t k, int64_t count,
                               int64_t width, typename V::T* to) {
  const int64_t last = (count - 1) / V::lanes * V::lanes;
  const typename V::Mask mask = V::mask(count - last);
  const typename V::Mask rest = V::mask(std::min<int64_t>(width - last, V::lanes));
  for (int64_t p = 0; p < k; ++p, from += deep, to += width) {
    for (int64_t i = 0; i < last; i += V::lanes) V::store(to + i, V::load(from + i));
    V::store(to + last, V::load(from + last, mask), rest);
    for (int64_t i = last + V::lanes; i < width; ++i) to[i] = 0;
  }
}

// lanes x lanes elements, contiguous along k: row p of `to` takes column p of `from`.
template <typename V>
FEDFAST_TARGET FEDFAST_INLINE void transpose(const typename V::T* from, int64_t along,
                                             int64_t width, typename V::Mask mask, int64_t rows,
                                             typename V::T* to) {
  for (int64_t p = 0; p < rows; p += V::group) {
    typename V::Reg t[V::group];
    FEDFAST_UNROLL
    for (int g = 0; g < V::group; ++g) t[g] = V::join(from + p + g * along, V::group * along);
    V::in_group(t);
    if (p + V::group <= rows) {
      FEDFAST_UNROLL
      for (int g = 0; g < V::group; ++g) V::store(to + (p + g) * width, t[g], mask);
    } else {
      for (int64_t g = 0; p + g < rows; ++g) V::store(to + (p + g) * width, t[g], mask);
    }
  }
}

// The same at the edge of the matrix: what lies beyond counts as zero.
template <typename V>
FEDFAST_TARGET void transpose_edge(const typename V::T* from, int64_t along, int64_t width,
                                   typename V::Mask mask, int64_t rows, int64_t count,
                                   typename V::T* to) {
  typename V::T square[V::lanes * V::lanes];
  const typename V::Mask inside = V::mask(rows);
  for (int i = 0; i < V::lanes; ++i) {
    V::store(square + i * V::lanes, i < count ? V::load(from + i * along, inside) : V::zero());
  }
  transpose<V>(square, V::lanes, width, mask, rows, to);
}

// Panels of a matrix that is contiguous along k.
template <typename V>
FEDFAST_TARGET void pack_deep(const typename V::T* from, int64_t along, int64_t k, int64_t count,
                              int64_t width, typename V::T* to) {
  for (int64_t p = 0; p < k; p += V::lanes) {
    const int64_t rows = std::min<int64_t>(V::lanes, k - p);
    for (int64_t i = 0; i < width; i += V::lanes) {
      const typename V::Mask mask = V::mask(std::min<int64_t>(V::lanes, width - i));
      const typename V::T* block = from + i * along + p;
      if (rows == V::lanes && i + V::lanes <= count) {
        transpose<V>(block, along, width, mask, rows, to + p * width + i);
      } else {
        transpose_edge<V>(block, along, width, mask, rows, count - i, to + p * width + i);
      }
    }
  }
}

template <typename T>
void pack_any(const T* from, int64_t along, int64_t deep, int64_t k, int64_t count, int64_t width,
              T* to) {
  for (int64_t p = 0; p < k; ++p, from += deep, to += width) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * along];
    for (int64_t i = count; i < width; ++i) to[i] = 0;
  }
}

template <typename V>
void pack(const typename V::T* from, int64_t along, int64_t deep, int64_t k, int64_t count,
          int64_t width, typename V::T* to) {
  if (along == 1) return pack_along<V>(from, deep, k, count, width, to);
  if (deep == 1) return pack_deep<V>(from, along, k, count, width, to);
  pack_any(from, along, deep, k, count, width, to);
}

template <typename V, int R, int... N>
void fill_row(Kernels<typename V::T>& kernels, std::integer_sequence<int, N...>) {
  ((kernels.tile[R][N + 1] = tile<V, R, N + 1>), ...);
}

template <typename V, int... R>
void fill_tiles(Kernels<typename V::T>& kernels, std::integer_sequence<int, R...>) {
  (fill_row<V, R + 1>(kernels, std::make_integer_sequence<int, kMaxTileVectors>{}), ...);
}

template <typename V, int... R>
void fill_dots(Kernels<typename V::T>& kernels, std::integer_sequence<int, R...>) {
  ((kernels.dots[R + 1] = dots<V, R + 1>), ...);
}

// Rows of a broad tile: registers hold its sums, N vectors of b and one element of a.
template <typename V>
constexpr int broad_rows(int n) {
  return std::min(V::rows, (kMaxTileVectors * V::rows + 3 - n) / n);
}

template <typename V, int N, int... R>
void fill_broad(Kernels<typename V::T>& kernels, std::integer_sequence<int, R...>) {
  ((kernels.broad[R + 1][N] = broad<V, R + 1, N>), ...);
}

template <typename V, int... N>
void fill_broads(Kernels<typename V::T>& kernels, std::integer_sequence<int, N...>) {
  ((kernels.broad_rows[N + 1] = broad_rows<V>(N + 1)), ...);
  (fill_broad<V, N + 1>(kernels, std::make_integer_sequence<int, broad_rows<V>(N + 1)>{}), ...);
}

template <typename V>
void fill(Kernels<typename V::T>& kernels) {
  kernels.rows = V::rows;
  kernels.lanes = V::lanes;
  kernels.vectors = kMaxTileVectors;
  kernels.pack = pack<V>;
  kernels.dot_rows = V::dot_rows;
  kernels.dot_columns = V::group;
  fill_dots<V>(kernels, std::make_integer_sequence<int, V::dot_rows>{});
  constexpr int across = V::rows > 8 ? kMaxBroadVectors : kMaxBroadVectors - 1;
  kernels.broad_vectors = across;
  fill_broads<V>(kernels, std::make_integer_sequence<int, across>{});
  fill_tiles<V>(kernels, std::make_integer_sequence<int, V::rows>{});
}

}  // namespace
}  // namespace fedfast
