// Matrix products of one thread: c = beta * c0 + alpha * a b.
//
// Letters: a [m, k], b [k, n], c and c0 [m, n] with unit column stride. Every element of c is added
// in one order that depends on (m, n, k) and on which way the operands lie alone: never on threads,
// alignment or strides. It is the same under AVX2 and AVX-512. Where there is neither, products are
// not fused into sums, dots have fewer lanes, and last bits may differ.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/gemm_kernels.h"
#include "cpu/upcoming.h"
#include "row_work.h"

namespace fedfast {

// A matrix in memory: element (i, j) lies at data[i * row + j * col].
template <typename T>
struct Matrix {
  const T* data = nullptr;
  int64_t row = 0, col = 1;

  Matrix transposed() const { return {data, col, row}; }
  Matrix rows(int64_t first) const { return {data + first * row, row, col}; }
  Matrix columns(int64_t first) const { return {data + first * col, row, col}; }
};

// c = beta * c0 + alpha * product + gamma * d; c0 is not read when beta is 0 and may be c itself;
// d, whose rows are c's in length, may be absent. `formed`, if given, says what d is the sum of: d
// is where its base lies then.
// reports: whether elements have their last value of the step, which is said of rows side by side.
template <typename T>
struct Sum {
  T* c = nullptr;
  int64_t c_row = 0;
  T alpha = 1, beta = 0;
  const T* c0 = nullptr;
  int64_t c0_row = 0;
  T gamma = 0;
  const T* d = nullptr;
  int64_t d_row = 0;
  const Addend<T>* formed = nullptr;
  bool reports = false;

  Sum at(int64_t i, int64_t j) const {
    Sum part = *this;
    part.c += i * c_row + j;
    part.c0 = beta == 0 ? nullptr : c0 + i * c0_row + j;
    if (d != nullptr) part.d += i * d_row + j;
    return part;
  }
  // The same place, to which later pieces of k are added.
  Sum onto() const { return {c, c_row, alpha, T{1}, c, c_row}; }
};

namespace gemm_detail {

// k is cut into pieces of this many and a rest: zeros at its end change no sum.
template <typename T>
constexpr int64_t kDepth = 3200 / sizeof(T);

// The same for dots, whose panels are not packed; half or a quarter of it is slower everywhere.
template <typename T>
constexpr int64_t kDotDepth = 4096 / sizeof(T);

// Up to this many rows or columns, dots: for more they are slower than packing at most depths.
constexpr int64_t kDotRows = 16;
constexpr int64_t kStreamRows = 64;  // up to this many, b is not packed where it can be streamed
constexpr int64_t kStreamDepth = 128;
// From this depth on, b is not packed though lanes of a are idle: at a depth of 192,
// 24 rows take 1.1 to 1.25 times as long that way.
constexpr int64_t kBroadDepth = 448;
constexpr int64_t kShallow = 256;  // up to this depth too, whatever the rows
constexpr int64_t kThin = 128;     // up to this many rows, all of a stays in the second cache
constexpr int64_t kBlockBytes = 1 << 20;  // of b otherwise, in the second-level cache
constexpr int64_t kSlack = 64;            // elements packing may write past a panel's end
// Elements of the widest vector: what depends on how many rows fill one is chosen by it whatever
// the instruction set, so that orders of additions are the same.
template <typename T>
constexpr int64_t kWidest = 64 / sizeof(T);

// [start, stop) of piece i when `size` is cut evenly into `pieces`.
struct Cut {
  int64_t size, pieces;

  Cut(int64_t size, int64_t longest)
      : size(size), pieces(std::max<int64_t>(1, (size + longest - 1) / longest)) {}
  int64_t start(int64_t i) const { return size * i / pieces; }
};

// Calls body(start, length) for each piece in order.
template <typename Body>
inline void each(const Cut& cut, const Body& body) {
  for (int64_t i = 0; i < cut.pieces; ++i) body(cut.start(i), cut.start(i + 1) - cut.start(i));
}

// Calls body(k0, length) for pieces of k of this length and a rest; once where k is 0.
template <typename Body>
inline void each_depth(int64_t k, int64_t length, const Body& body) {
  int64_t k0 = 0;
  do {
    body(k0, std::min(length, k - k0));
    k0 += length;
  } while (k0 < k);
}

// Columns of a panel that starts at j: whole tiles, and at the end as few vectors as serve.
template <typename T>
inline int64_t panel_width(const Kernels<T>& kernels, int64_t columns) {
  const int64_t widest = kernels.lanes * kernels.vectors;
  return columns >= widest ? widest : (columns + kernels.lanes - 1) / kernels.lanes * kernels.lanes;
}

// Few rows: a is packed once per piece of k, panels of b pass through the first-level cache.
template <typename T, typename PackA, typename PackB>
void thin(int64_t m, int64_t n, int64_t k0, int64_t kc, const PackA& pack_a, const PackB& pack_b,
          const Sum<T>& sum) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const int64_t widest = kernels.lanes * kernels.vectors;
  const Cut rows(m, kernels.rows);
  T* a = scratch<T>(0, m * kc + kSlack);
  T* b = scratch<T>(1, widest * kc + kSlack);
  each(rows, [&](int64_t i, int64_t r) { pack_a(k0, kc, i, r, r, a + i * kc); });
  for (int64_t j = 0; j < n; j += widest) {
    const int64_t columns = std::min(widest, n - j), width = panel_width(kernels, n - j);
    pack_b(k0, kc, j, columns, width, b);
    each(rows, [&](int64_t i, int64_t r) {
      const Sum<T> s = sum.at(i, j);
      kernels.tile[r][width / kernels.lanes](kc, a + i * kc, b, width, columns, s);
    });
  }
}

// Many rows: a block of b is packed into the second-level cache, tiles of a pass through the first;
// c is written along its rows.
template <typename T, typename PackA, typename PackB>
void thick(int64_t m, int64_t n, int64_t k0, int64_t kc, const PackA& pack_a, const PackB& pack_b,
           const Sum<T>& sum) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const int64_t widest = kernels.lanes * kernels.vectors;
  const int64_t block =
      std::max<int64_t>(1, kBlockBytes / (std::max<int64_t>(kc, 1) * widest * int64_t{sizeof(T)}));
  const Cut rows(m, kernels.rows);
  T* a = scratch<T>(0, kernels.rows * kc + kSlack);
  T* b = scratch<T>(1, std::min(block * widest, n + widest) * kc + kSlack);
  for (int64_t j0 = 0; j0 < n; j0 += block * widest) {
    const int64_t j1 = std::min(n, j0 + block * widest);
    for (int64_t j = j0; j < j1; j += widest) {
      pack_b(k0, kc, j, std::min(widest, j1 - j), panel_width(kernels, j1 - j), b + (j - j0) * kc);
    }
    each(rows, [&](int64_t i, int64_t r) {
      pack_a(k0, kc, i, r, r, a);
      for (int64_t j = j0; j < j1; j += widest) {
        const int64_t width = panel_width(kernels, j1 - j);
        kernels.tile[r][width / kernels.lanes](kc, a, b + (j - j0) * kc, width,
                                               std::min(widest, j1 - j), sum.at(i, j));
      }
    });
  }
}

}  // namespace gemm_detail

// Packs panels of a matrix in memory; `along` is the stride between panel members, `deep` along k.
template <typename T>
struct PackStrided {
  const T* data;
  int64_t along, deep;

  void operator()(int64_t k0, int64_t kc, int64_t i0, int64_t count, int64_t width, T* to) const {
    gemm_kernels<T>().pack(data + k0 * deep + i0 * along, along, deep, kc, count, width, to);
  }
};

template <typename T>
PackStrided<T> pack_rows_of(const Matrix<T>& a) {
  return {a.data, a.row, a.col};
}

template <typename T>
PackStrided<T> pack_columns_of(const Matrix<T>& b) {
  return {b.data, b.col, b.row};
}

// The product of operands that exist only as panels. For p in [0, kc):
//   pack_a(k0, kc, i0, rows, width, to) writes to[p * width + i] = a[i0 + i, k0 + p], i < rows
//   pack_b(k0, kc, j0, columns, width, to) writes to[p * width + j] = b[k0 + p, j0 + j], j <
//   columns
// and zeros up to `width`; up to kSlack elements past to[kc * width] may be spoiled. Each panel is
// asked for once per piece of k (a: once per block of b where m > kThin), in a fixed order.
// Packers must not call gemm: they share its scratch.
template <typename T, typename PackA, typename PackB>
void gemm_packed(int64_t m, int64_t n, int64_t k, const PackA& pack_a, const PackB& pack_b,
                 const Sum<T>& sum) {
  using namespace gemm_detail;
  if (m <= 0 || n <= 0) return;
  each_depth(k, kDepth<T>, [&](int64_t k0, int64_t kc) {
    const Sum<T> piece = k0 == 0 ? sum : sum.onto();
    m <= kThin ? thin<T>(m, n, k0, kc, pack_a, pack_b, piece)
               : thick<T>(m, n, k0, kc, pack_a, pack_b, piece);
  });
}

namespace gemm_detail {

// Very few rows times a matrix that is contiguous along k: nothing is packed.
template <typename T>
void dot(int64_t m, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
         const Sum<T>& sum) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const Cut rows(m, kernels.dot_rows);
  Upcoming& soon = upcoming();
  each(Cut(k, kDotDepth<T>), [&](int64_t k0, int64_t kc) {
    const Sum<T> piece = k0 == 0 ? sum : sum.onto();
    for (int64_t j = 0; j < n; j += kernels.dot_columns) {
      const int64_t columns = std::min<int64_t>(kernels.dot_columns, n - j);
      const T* bj = b.data + j * b.col + k0;
      each(rows, [&](int64_t i, int64_t r) {
        soon.some();
        kernels.dots[r](kc, a.data + i * a.row + k0, a.row, bj, b.col, columns, piece.at(i, j));
      });
    }
  });
}

// How much of k to pass over at once: few of b's rows, so that they are read along, not across,
// unless they are short and there is much to do with each.
inline int64_t stream_depth(int64_t width, int64_t n) {
  return width <= kDotRows || n > 2048 ? kStreamDepth / 4 : kStreamDepth;
}

// Few rows times a matrix that is contiguous along its rows, which is used where it lies.
template <typename T>
void stream(int64_t m, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
            const Sum<T>& sum, int64_t width) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const int64_t widest = kernels.lanes * kernels.vectors;
  const Cut rows(m, kernels.rows);
  each_depth(k, stream_depth(width, n), [&](int64_t k0, int64_t kc) {
    const Sum<T> piece = k0 == 0 ? sum : sum.onto();
    T* packed = scratch<T>(0, m * kc + kSlack);
    each(rows, [&](int64_t i, int64_t r) { pack_rows_of(a)(k0, kc, i, r, r, packed + i * kc); });
    for (int64_t j = 0; j < n; j += widest) {
      const int64_t vectors = panel_width(kernels, n - j) / kernels.lanes;
      const int64_t columns = std::min(widest, n - j);
      each(rows, [&](int64_t i, int64_t r) {
        kernels.tile[r][vectors](kc, packed + i * kc, b.data + k0 * b.row + j, b.row, columns,
                                 piece.at(i, j));
      });
    }
  });
}

}  // namespace gemm_detail

namespace gemm_detail {

// Many rows of little depth times a matrix that is contiguous along its rows, which is used where
// it lies; c is written along its rows.
template <typename T>
void shallow(int64_t m, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
             const Sum<T>& sum) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const int64_t widest = kernels.lanes * kernels.vectors;
  T* packed = scratch<T>(0, kernels.rows * k + kSlack);
  Upcoming& soon = upcoming();
  RowWork& work = row_work();
  constexpr int64_t size = sizeof(T);
  const bool tiles = sum.reports && work.by_tiles(sum.c, sum.c_row * size, widest * size);
  each(Cut(m, kernels.rows), [&](int64_t i, int64_t r) {
    pack_rows_of(a)(0, k, i, r, r, packed);
    for (int64_t j = 0; j < n; j += widest) {
      const int64_t vectors = panel_width(kernels, n - j) / kernels.lanes;
      const Sum<T> s = sum.at(i, j);
      const int64_t columns = std::min(widest, n - j);
      soon.some();
      kernels.tile[r][vectors](k, packed, b.data + j, b.row, columns, s);
      if (tiles) work.wrote_tile(s.c, r, sum.c_row * size, columns * size);
    }
    if (sum.reports) work.wrote(sum.c + i * sum.c_row, r * n * size, tiles);
  });
}

// Of so many rows those that lie in vectors; the others, which would fill few lanes, are dots.
template <typename T>
int64_t rows_in_vectors(int64_t rows) {
  const int64_t rest = rows % kWidest<T>;
  return 4 * rest <= kWidest<T> ? rows - rest : rows;
}

// Whether `broad` serves: few rows, both operands contiguous along k, at most a row to add to; and
// either few lanes idle or k is so deep that packing b costs more.
template <typename T>
bool is_broad(int64_t width, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
              const Sum<T>& sum) {
  const bool simple =
      sum.alpha == 1 && sum.d == nullptr && (sum.beta == 0 || (sum.beta == 1 && sum.c0_row == 0));
  const int64_t rows = rows_in_vectors<T>(width);
  const int64_t padded = (rows + kWidest<T> - 1) / kWidest<T> * kWidest<T>;
  if (10 * padded > 13 * rows && k < kBroadDepth) return false;
  return width <= kStreamRows && a.col == 1 && b.row == 1 && simple && sum.c_row == n;
}

// Columns [i, i + columns) of c', the transposed product: b's columns are read where they lie, a is
// packed.
template <typename T>
void broad_panel(int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b, const Sum<T>& sum,
                 int64_t i, int64_t columns) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const int64_t vectors = (columns + kernels.lanes - 1) / kernels.lanes;
  const int64_t width = vectors * kernels.lanes;
  const Cut rows(n, kernels.broad_rows[vectors]);
  T* c = scratch<T>(0, n * width);
  Upcoming& soon = upcoming();
  each(Cut(k, kDotDepth<T>), [&](int64_t k0, int64_t kc) {
    T* packed = scratch<T>(1, kc * width + kSlack);
    pack_rows_of(a)(k0, kc, i, columns, width, packed);
    each(rows, [&](int64_t j, int64_t r) {
      const T* start = sum.beta == 0 ? nullptr : sum.c0 + j;
      T* cj = c + j * width;
      soon.some();
      kernels.broad[r][vectors](kc, b.data + j * b.col + k0, b.col, packed, k0 == 0 ? start : cj,
                                cj);
    });
  });
  kernels.pack(c, width, 1, columns, n, n, sum.c + i * sum.c_row);
}

// Few rows times a matrix that is contiguous along k: the few are packed instead.
template <typename T>
void broad(int64_t m, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
           const Sum<T>& sum, int64_t width) {
  const Kernels<T>& kernels = gemm_kernels<T>();
  const int64_t packed = std::min(m, rows_in_vectors<T>(width));
  const Cut vectors((packed + kernels.lanes - 1) / kernels.lanes, kernels.broad_vectors);
  each(vectors, [&](int64_t v, int64_t count) {
    const int64_t i = v * kernels.lanes;
    broad_panel(n, k, a, b, sum, i, std::min(packed - i, count * kernels.lanes));
  });
  if (packed < m) {
    dot(m - packed, n, k, {a.data + packed * a.row, a.row, 1}, b, sum.at(packed, 0));
  }
}

}  // namespace gemm_detail

// The product of two matrices in memory; transposes cost nothing but their packing.
//   width   m of the largest product of its kind, if larger than m: an element's order of sums
//           follows from it, so that a row's bits do not depend on how many others there are
template <typename T>
void gemm(int64_t m, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
          const Sum<T>& sum, int64_t width = 0) {
  using namespace gemm_detail;
  if (m <= 0 || n <= 0) return;
  width = std::max(width, m);
  const bool few = std::min(width, n) <= kDotRows;
  if (few && a.col == 1 && b.row == 1 && sum.d == nullptr) return dot(m, n, k, a, b, sum);
  if (width <= kStreamRows && b.col == 1) return stream(m, n, k, a, b, sum, width);
  if (is_broad(width, n, k, a, b, sum)) return broad(m, n, k, a, b, sum, width);
  if (b.col == 1 && k <= kShallow) return shallow(m, n, k, a, b, sum);
  gemm_packed<T>(m, n, k, pack_rows_of(a), pack_columns_of(b), sum);
}

// A product of a row-major b may be added up in pieces of k of this length: the sums are the same.
template <typename T>
constexpr int64_t gemm_depth(int64_t width) {
  return width <= gemm_detail::kStreamRows ? gemm_detail::kStreamDepth : gemm_detail::kDepth<T>;
}

}  // namespace fedfast
