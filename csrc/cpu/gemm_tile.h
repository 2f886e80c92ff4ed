// A tile's product and packing over any vector type V. Each gemm_<isa>.cpp defines FEDFAST_TARGET,
// its vectors, and includes this once.
//
// V: T, Reg, Mask, lanes, rows (of the largest tile), mask(n), zero(), load(p), load(p, mask),
// store(p, x), store(p, x, mask), stream(p, x): past the caches, p aligned, broadcast(x), mul(a,
// b), add(a, b), fma(a, b, c), for transposing: group (elements of 16 bytes), join(p, step): 16
// bytes from each of p, p + step, ..., and in_group(t): the transpose of group x group elements in
// each 16 bytes. Dots ask a V of T, Reg, Mask, lanes, mask, zero, load and fma, group (how many
// columns), dot_rows, and add_lanes(x, to): the sum of each of `group` vectors.
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

// What joins an element: nothing, gamma d, or gamma times a sum of one or two terms on a base.
enum class Joins { nothing, row, one_term, two_terms };

// d, or the sum that stands for it, from element `at` on. `mask...` is the last vector's.
template <typename V, Joins J, typename... Mask>
FEDFAST_TARGET FEDFAST_INLINE typename V::Reg joining(const typename V::T* d,
                                                      const Addend<typename V::T>* formed,
                                                      std::ptrdiff_t at, Mask... mask) {
  const typename V::Reg base = V::load(d, mask...);
  if constexpr (J == Joins::row) return base;
  typename V::Reg sum = V::mul(V::broadcast(formed->c[0]), V::load(formed->d[0] + at, mask...));
  if constexpr (J == Joins::two_terms) {
    const typename V::Reg second = V::load(formed->d[1] + at, mask...);
    sum = V::add(sum, V::mul(V::broadcast(formed->c[1]), second));
  }
  return V::add(base, sum);
}

// c = alpha * acc, plus beta * c0 and gamma * d where these are read.
template <typename V, int N, bool Reads, Joins J>
FEDFAST_TARGET FEDFAST_INLINE void store_row(const typename V::Reg (&acc)[N], typename V::Mask mask,
                                             const Sum<typename V::T>& sum, int r) {
  using T = typename V::T;
  const typename V::Reg alpha = V::broadcast(sum.alpha), beta = V::broadcast(sum.beta);
  const typename V::Reg gamma = V::broadcast(sum.gamma);
  const T* c0 = Reads ? sum.c0 + r * sum.c0_row : nullptr;
  const T* d = J == Joins::nothing ? nullptr : sum.d + r * sum.d_row;
  const std::ptrdiff_t from = J > Joins::row ? d - sum.formed->base : 0;
  T* c = sum.c + r * sum.c_row;
  FEDFAST_UNROLL
  for (int v = 0; v < N - 1; ++v) {
    const int at = v * V::lanes;
    typename V::Reg x = V::mul(alpha, acc[v]);
    if constexpr (J != Joins::nothing) {
      x = V::fma(gamma, joining<V, J>(d + at, sum.formed, from + at), x);
    }
    if constexpr (Reads) x = V::fma(beta, V::load(c0 + at), x);
    V::store(c + at, x);
  }
  constexpr int at = (N - 1) * V::lanes;
  typename V::Reg x = V::mul(alpha, acc[N - 1]);
  if constexpr (J != Joins::nothing) {
    x = V::fma(gamma, joining<V, J>(d + at, sum.formed, from + at, mask), x);
  }
  if constexpr (Reads) x = V::fma(beta, V::load(c0 + at, mask), x);
  V::store(c + at, x, mask);
}

// All rows of a tile.
template <typename V, int R, int N, bool Reads, Joins J>
FEDFAST_TARGET FEDFAST_INLINE void store_tile(const typename V::Reg (&acc)[R][N],
                                              typename V::Mask mask,
                                              const Sum<typename V::T>& sum) {
  FEDFAST_UNROLL
  for (int r = 0; r < R; ++r) store_row<V, N, Reads, J>(acc[r], mask, sum, r);
}

template <typename V, int R, int N, Joins J>
FEDFAST_TARGET FEDFAST_INLINE void store_joined(const typename V::Reg (&acc)[R][N],
                                                typename V::Mask mask,
                                                const Sum<typename V::T>& sum) {
  sum.beta == 0 ? store_tile<V, R, N, false, J>(acc, mask, sum)
                : store_tile<V, R, N, true, J>(acc, mask, sum);
}

// Asks for the rows that the next tile to the right adds.
template <typename V, int R, int N>
FEDFAST_TARGET FEDFAST_INLINE void fetch_joining(const Sum<typename V::T>& sum) {
  if (sum.formed == nullptr) {
    for (int r = 0; r < R; ++r) fetch<V, N>(sum.d + r * sum.d_row + N * V::lanes);
    return;
  }
  for (int r = R; r < 2 * R; ++r) fetch<V, N>(sum.d + r * sum.d_row);
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
  if (sum.d != nullptr) fetch_joining<V, R, N>(sum);
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
  if (sum.d == nullptr) return store_joined<V, R, N, Joins::nothing>(acc, mask, sum);
  if (sum.formed == nullptr) return store_joined<V, R, N, Joins::row>(acc, mask, sum);
  sum.formed->count == 1 ? store_joined<V, R, N, Joins::one_term>(acc, mask, sum)
                         : store_joined<V, R, N, Joins::two_terms>(acc, mask, sum);
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

// A vector of the sum, from element i on; `mask` where it is not whole.
template <typename V, int J, typename... Mask>
FEDFAST_TARGET FEDFAST_INLINE typename V::Reg row_sum(const typename V::T* base,
                                                      const typename V::T* const* d,
                                                      const typename V::Reg (&c)[J], int64_t i,
                                                      Mask... mask) {
  typename V::Reg sum = V::mul(c[0], V::load(d[0] + i, mask...));
  FEDFAST_UNROLL
  for (int j = 1; j < J; ++j) sum = V::add(sum, V::mul(c[j], V::load(d[j] + i, mask...)));
  return V::add(V::load(base + i, mask...), sum);
}

template <typename V, int J>
FEDFAST_TARGET void row_sum_edge(const typename V::T* base, const typename V::T* const* d,
                                 const typename V::Reg (&c)[J], int64_t i, int64_t count,
                                 typename V::T* out) {
  const typename V::Mask mask = V::mask(count);
  V::store(out + i, row_sum<V, J>(base, d, c, i, mask), mask);
}

// Elements [i, end). Whole vectors go past the caches from where `out` is aligned.
template <typename V, int J, bool Past>
FEDFAST_TARGET FEDFAST_INLINE void row_piece(const typename V::T* base,
                                             const typename V::T* const* d,
                                             const typename V::Reg (&c)[J], int64_t i, int64_t end,
                                             typename V::T* out) {
  using T = typename V::T;
  constexpr int64_t bytes = V::lanes * sizeof(T);
  const int64_t over = reinterpret_cast<std::uintptr_t>(out + i) % bytes / sizeof(T);
  if (over != 0) {
    const int64_t n = std::min<int64_t>(end - i, V::lanes - over);
    row_sum_edge<V, J>(base, d, c, i, n, out);
    i += n;
  }
  for (; i + V::lanes <= end; i += V::lanes) {
    const typename V::Reg x = row_sum<V, J>(base, d, c, i);
    Past ? V::stream(out + i, x) : V::store(out + i, x);
  }
  if (i < end) row_sum_edge<V, J>(base, d, c, i, end - i, out);
}

template <typename V, int J, bool Past>
FEDFAST_TARGET void rows_sum(const typename V::T* base, const typename V::T* const* d,
                             const typename V::T* c, int64_t rows, int64_t step, int64_t n,
                             typename V::T* out) {
  typename V::Reg factor[J];
  for (int j = 0; j < J; ++j) factor[j] = V::broadcast(c[j]);
  for (int64_t i = 0; rows > 0; --rows, i += step) {
    row_piece<V, J, Past>(base, d, factor, i, i + n, out);
  }
}

template <typename V, int... J>
void fill_sums(Kernels<typename V::T>& kernels, std::integer_sequence<int, J...>) {
  ((kernels.sum[J + 1][0] = rows_sum<V, J + 1, false>), ...);
  ((kernels.sum[J + 1][1] = rows_sum<V, J + 1, true>), ...);
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

// D: the vectors of dots, whose lanes are the order of their sums.
template <typename V, typename D = V>
void fill(Kernels<typename V::T>& kernels) {
  kernels.rows = V::rows;
  kernels.lanes = V::lanes;
  kernels.vectors = kMaxTileVectors;
  kernels.pack = pack<V>;
  kernels.dot_rows = D::dot_rows;
  kernels.dot_columns = D::group;
  fill_dots<D>(kernels, std::make_integer_sequence<int, D::dot_rows>{});
  constexpr int across = V::rows > 8 ? kMaxBroadVectors : kMaxBroadVectors - 1;
  kernels.broad_vectors = across;
  fill_broads<V>(kernels, std::make_integer_sequence<int, across>{});
  fill_tiles<V>(kernels, std::make_integer_sequence<int, V::rows>{});
  fill_sums<V>(kernels, std::make_integer_sequence<int, RowSum::kMost>{});
}

}  // namespace
}  // namespace fedfast
