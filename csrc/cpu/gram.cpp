// Products of updates, block of columns by block of columns: the block's differences stay in the
// second-level cache while every pair of clients is multiplied there.
#include <cmath>

#include "cpu/blocks.h"
#include "cpu/gemm_kernels.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

constexpr int kLanes = 16;
constexpr int kRows = 2, kColumns = 4;  // a tile of pairs: its sums fill half of 32 registers

// Products that a float lane adds before it is widened. With the rounding of both differences an
// error is at most (kDepth + 2) / 2^24 of |d_i| |d_j| < 1e-6, whatever the data.
constexpr int64_t kDepth = 14;
constexpr int64_t kGroup = kDepth * kLanes;
constexpr int64_t kWidth = 4 * kGroup;  // columns of a block: four rows fit the first-level cache
constexpr int64_t kSpans = 64;          // slots of a whole row, and so the most tasks

// row - base, zeros up to `width`.
template <typename T>
FEDFAST_CLONES void differences(const T* row, const T* base, int64_t n, int64_t width, T* d) {
  if (base) {
    FEDFAST_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) d[i] = row[i] - base[i];
  } else {
    std::copy(row, row + n, d);
  }
  std::fill(d + n, d + width, T{0});
}

// sum over kGroup columns of every a_r b_c, in lanes of T, then into lanes of double.
template <typename T>
FEDFAST_INLINE void add_group(const T* a, const T* b,
                              double (&__restrict wide)[kRows][kColumns][kLanes]) {
  T lane[kRows][kColumns][kLanes] = {};
  for (int64_t i = 0; i < kGroup; i += kLanes) {
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < kColumns; ++c) {
          const T x = a[r * kWidth + i + j], y = b[c * kWidth + i + j];
          lane[r][c][j] = std::fma(x, y, lane[r][c][j]);
        }
      }
    }
  }
  FEDFAST_LANES
  for (int j = 0; j < kLanes; ++j) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kColumns; ++c) wide[r][c][j] += lane[r][c][j];
    }
  }
}

// The sum of 2 kHalf lanes, which are overwritten: halves are added to halves.
template <int kHalf>
FEDFAST_INLINE double sum_lanes(double* lane) {
  FEDFAST_LANES
  for (int j = 0; j < kHalf; ++j) lane[j] += lane[j + kHalf];
  if constexpr (kHalf > 1) return sum_lanes<kHalf / 2>(lane);
  return lane[0];
}

// sums[r, c] += the product of rows a_r and b_c over `width` columns, a multiple of kGroup.
template <typename T>
FEDFAST_CLONES void add_tile(const T* a, const T* b, int64_t width, double* sums, int64_t stride) {
  double wide[kRows][kColumns][kLanes];
  FEDFAST_LANES
  for (int j = 0; j < kLanes; ++j) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kColumns; ++c) wide[r][c][j] = 0;
    }
  }
  for (int64_t i = 0; i < width; i += kGroup) add_group(a + i, b + i, wide);
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      sums[r * stride + c] += sum_lanes<kLanes / 2>(wide[r][c]);
    }
  }
}

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// The row in spans of whole blocks, at most kSpans besides one per segment: S alone decides.
std::vector<Piece> cut_spans(const Segments& segments, int64_t size) {
  const int64_t longest = round_up((size + kSpans - 1) / kSpans, kWidth);
  std::vector<Piece> spans;
  for (int64_t l = 0; l < segments.count; ++l) {
    const int64_t stop = segments.offset[l] + segments.length[l];
    for (int64_t i = segments.offset[l]; i < stop; i += longest) {
      spans.push_back({i, std::min(i + longest, stop), l});
    }
  }
  return spans;
}

// One span's sums for all pairs i >= j, into [padded, padded].
template <typename T>
struct Span {
  const Gram<T>& p;
  int64_t clients, padded;  // K, and K up to a multiple of the tile's columns
  T* d;                     // [padded, kWidth], rows from K on zero
  double* sums;

  void add(const Piece& span) const {
    for (int64_t i = span.start; i < span.stop; i += kWidth) {
      block(i, std::min(kWidth, span.stop - i));
    }
  }

 private:
  void block(int64_t start, int64_t n) const {
    const int64_t width = round_up(n, kGroup);
    for (int64_t k = 0; k < clients; ++k) {
      const T* base = p.base ? p.base.row(k) + start : nullptr;
      differences(p.rows.row(k) + start, base, n, width, d + k * kWidth);
    }
    for (int64_t j = 0; j < clients; j += kColumns) {
      for (int64_t k = j; k < std::min(j + kColumns, clients); ++k) {
        fetch(p.rows.row(k) + start + kWidth, kWidth);  // what the next block will subtract
      }
      for (int64_t i = j; i < clients; i += kRows) {
        add_tile(d + i * kWidth, d + j * kWidth, width, sums + i * padded + j, padded);
      }
    }
  }
};

// out [K, K] += the lower triangle in sums [padded, padded], on both sides.
void add_mirrored(const double* sums, int64_t clients, int64_t padded, double* out) {
  for (int64_t i = 0; i < clients; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      out[i * clients + j] += sums[i * padded + j];
      out[j * clients + i] = out[i * clients + j];
    }
  }
}

}  // namespace

template <typename T>
void gram(const Shape& shape, const Gram<T>& p) {
  const std::vector<Piece> spans = cut_spans(p.segments, shape.size);
  const int64_t count = spans.size(), clients = shape.clients;
  const int64_t padded = round_up(clients, kColumns), square = padded * padded;
  std::vector<double> slots(count * square);
  const int threads = worth(shape.threads, count, clients * shape.size);
  parallel(threads, count, [&](int64_t s, int64_t last) {
    T* d = scratch<T>(0, padded * kWidth);
    std::fill(d + clients * kWidth, d + padded * kWidth, T{0});
    for (; s < last; ++s) Span<T>{p, clients, padded, d, &slots[s * square]}.add(spans[s]);
  });
  std::fill(p.out, p.out + p.segments.count * clients * clients, 0.0);
  for (int64_t s = 0; s < count; ++s) {
    add_mirrored(&slots[s * square], clients, padded, p.out + spans[s].segment * clients * clients);
  }
}

template void gram(const Shape&, const Gram<float>&);
template void gram(const Shape&, const Gram<double>&);

}  // namespace fedfast
