// Products of a = x - x_ref and b = y - y_ref in float64, block by block of a segment into owned
// slots.
#include <cmath>

#include "cpu/isa.h"
#include "cpu/passes.h"

namespace fedfast {
namespace {

constexpr int kLanes = 16;

// One client's operands at the start of a piece; references may be absent.
template <typename T>
struct Rows {
  const T *x, *y, *x_ref, *y_ref;
};

template <bool kRef, typename T>
inline double at(const T* x, const T* ref, int64_t i) {
  if constexpr (kRef) return static_cast<double>(x[i]) - static_cast<double>(ref[i]);
  return x[i];
}

struct Lanes {
  double xx[kLanes] = {}, xy[kLanes] = {}, yy[kLanes] = {}, abs_xy[kLanes] = {};

  inline void add(int lane, double a, double b) {
    const double ab = a * b;
    xx[lane] += a * a;
    xy[lane] += ab;
    yy[lane] += b * b;
    abs_xy[lane] += std::abs(ab);
  }

  void store(double* sums) const {
    std::fill(sums, sums + kStatColumns, 0.0);
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      sums[0] += xx[j];
      sums[1] += xy[j];
      sums[2] += yy[j];
      sums[3] += abs_xy[j];
    }
  }
};

template <bool kXRef, bool kYRef, typename T>
FEDFAST_INLINE void fetch_rows(const Rows<T>& r, int64_t i) {
  i += kAheadBytes / sizeof(T);
  fetch(r.x + i, kLanes);
  fetch(r.y + i, kLanes);
  if constexpr (kXRef) fetch(r.x_ref + i, kLanes);
  if constexpr (kYRef) fetch(r.y_ref + i, kLanes);
}

// The sums over n elements, without the count of non-finite ones.
template <bool kXRef, bool kYRef, typename T>
FEDFAST_CLONES void products(const Rows<T>& r, int64_t n, double* sums) {
  Lanes lanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    fetch_rows<kXRef, kYRef>(r, i);
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      lanes.add(j, at<kXRef>(r.x, r.x_ref, i + j), at<kYRef>(r.y, r.y_ref, i + j));
    }
  }
  for (int j = 0; i + j < n; ++j) {
    lanes.add(j, at<kXRef>(r.x, r.x_ref, i + j), at<kYRef>(r.y, r.y_ref, i + j));
  }
  lanes.store(sums);
}

template <bool kXRef, typename T>
FEDFAST_CLONES void squares(const Rows<T>& r, int64_t n, double* sums) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    fetch(r.x + i + kAheadBytes / sizeof(T), kLanes);
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      const double a = at<kXRef>(r.x, r.x_ref, i + j);
      lane[j] += a * a;
    }
  }
  for (int j = 0; i + j < n; ++j) {
    const double a = at<kXRef>(r.x, r.x_ref, i + j);
    lane[j] += a * a;
  }
  std::fill(sums, sums + kStatColumns, 0.0);
  for (int j = 0; j < kLanes; ++j) sums[0] += lane[j];
}

template <typename T>
double count_nonfinite(const Rows<T>& r, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double a = r.x_ref ? at<true>(r.x, r.x_ref, i) : r.x[i];
    const double b = !r.y ? 0 : r.y_ref ? at<true>(r.y, r.y_ref, i) : r.y[i];
    count += !(std::isfinite(a) && std::isfinite(b));
  }
  return count;
}

template <typename T>
void block(const Rows<T>& r, int64_t n, double* sums) {
  if (!r.y) {
    r.x_ref ? squares<true>(r, n, sums) : squares<false>(r, n, sums);
  } else if (r.x_ref) {
    r.y_ref ? products<true, true>(r, n, sums) : products<true, false>(r, n, sums);
  } else {
    r.y_ref ? products<false, true>(r, n, sums) : products<false, false>(r, n, sums);
  }
  // A non-finite element leaves its mark in the squares, so that the search for it costs nothing
  // when there is none.
  if (!std::isfinite(sums[0] + sums[2])) sums[4] = count_nonfinite(r, n);
}

template <typename T>
const T* at_start(const Bank<const T>& bank, int64_t k, int64_t start) {
  return bank ? bank.row(k) + start : nullptr;
}

// out[k, l] = the sums of its pieces, in order.
void gather(const std::vector<Piece>& pieces, const double* slots, int64_t segments, double* out) {
  std::fill(out, out + segments * kStatColumns, 0.0);
  for (const Piece& piece : pieces) {
    double* sums = out + piece.segment * kStatColumns;
    for (int c = 0; c < kStatColumns; ++c) sums[c] += *slots++;
  }
}

}  // namespace

template <typename T>
void stats(const Shape& shape, const Stats<T>& p) {
  const std::vector<Piece> pieces = cut_segments(p.segments, 0);
  const int64_t width = pieces.size() * kStatColumns;
  std::vector<double> slots(shape.clients * width);
  each_piece(shape, pieces, [&](int64_t k, const Piece& piece) {
    const int64_t start = piece.start, slot = &piece - pieces.data();
    const Rows<T> rows{at_start(p.x, k, start), at_start(p.y, k, start),
                       at_start(p.x_ref, k, start), at_start(p.y_ref, k, start)};
    block(rows, piece.stop - start, &slots[k * width + slot * kStatColumns]);
  });
  for (int64_t k = 0; k < shape.clients; ++k) {
    gather(pieces, &slots[k * width], p.segments.count,
           p.out + k * p.segments.count * kStatColumns);
  }
}

template void stats(const Shape&, const Stats<float>&);
template void stats(const Shape&, const Stats<double>&);

}  // namespace fedfast
