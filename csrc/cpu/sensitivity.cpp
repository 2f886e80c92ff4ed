// Mean squared change of each segment; where it is normalised, a pass that finds minimum and
// maximum comes first.
#include <cmath>
#include <limits>

#include "cpu/isa.h"
#include "cpu/passes.h"

namespace fedfast {
namespace {

constexpr int kLanes = 16;

// The smallest and largest of some elements. NaN is passed over: the sums will show it.
template <typename T>
struct Bounds {
  T low = std::numeric_limits<T>::infinity(), high = -std::numeric_limits<T>::infinity();

  void widen(T least, T most) {
    low = std::min(low, least);
    high = std::max(high, most);
  }
};

// n(v) = (v - low) * factor.
struct Scale {
  double low = 0, factor = 1;
};

template <typename T>
FEDFAST_CLONES Bounds<T> bounds(const T* x, int64_t n) {
  Bounds<T> whole;
  T low[kLanes], high[kLanes];
  std::fill(low, low + kLanes, whole.low);
  std::fill(high, high + kLanes, whole.high);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    fetch(x + i + kAheadBytes / sizeof(T), kLanes);
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
      high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
    }
  }
  for (; i < n; ++i) whole.widen(x[i], x[i]);
  for (int j = 0; j < kLanes; ++j) whole.widen(low[j], high[j]);
  return whole;
}

FEDFAST_INLINE double square_of_change(double x, double y, Scale sx, Scale sy) {
  const double change = (x - sx.low) * sx.factor - (y - sy.low) * sy.factor;
  return change * change;
}

// The sum of (n(x) - n(y))^2 over n elements.
template <typename T>
FEDFAST_CLONES double changes(const T* x, const T* y, int64_t n, Scale sx, Scale sy) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    fetch(x + i + kAheadBytes / sizeof(T), kLanes);
    fetch(y + i + kAheadBytes / sizeof(T), kLanes);
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) lane[j] += square_of_change(x[i + j], y[i + j], sx, sy);
  }
  for (int j = 0; i + j < n; ++j) lane[j] += square_of_change(x[i + j], y[i + j], sx, sy);
  return sum_in_order(lane, kLanes);
}

// [clients, L]; a row that all clients share is read once.
template <typename T>
std::vector<Scale> scales(const Shape& shape, const std::vector<Piece>& pieces, int64_t segments,
                          const Bank<const T>& bank, bool normalize) {
  const Shape own{bank.stride == 0 ? 1 : shape.clients, shape.size, shape.threads};
  std::vector<Scale> scale(own.clients * segments);
  if (!normalize) return scale;
  const int64_t width = pieces.size();
  std::vector<Bounds<T>> slots(own.clients * width), whole(scale.size());
  each_piece(own, pieces, [&](int64_t k, const Piece& piece) {
    slots[k * width + (&piece - pieces.data())] =
        bounds(bank.row(k) + piece.start, piece.stop - piece.start);
  });
  for (int64_t slot = 0; slot < own.clients * width; ++slot) {
    const int64_t k = slot / width, segment = pieces[slot % width].segment;
    whole[k * segments + segment].widen(slots[slot].low, slots[slot].high);
  }
  for (size_t i = 0; i < scale.size(); ++i) {
    const double low = whole[i].low;
    scale[i] = {low, 1 / (whole[i].high - low)};
  }
  return scale;
}

}  // namespace

template <typename T>
void sensitivity(const Shape& shape, const Sensitivity<T>& p) {
  const std::vector<Piece> pieces = cut_segments(p.segments, 0);
  const int64_t width = pieces.size(), segments = p.segments.count;
  const std::vector<Scale> of_x = scales(shape, pieces, segments, p.x, p.normalize);
  const std::vector<Scale> of_y = scales(shape, pieces, segments, p.y, p.normalize);
  const auto scale = [&](const std::vector<Scale>& of, const Bank<const T>& bank, int64_t k,
                         int64_t l) { return of[(bank.stride == 0 ? 0 : k * segments) + l]; };
  std::vector<double> slots(shape.clients * width);
  each_piece(shape, pieces, [&](int64_t k, const Piece& piece) {
    const int64_t i = piece.start, l = piece.segment;
    slots[k * width + (&piece - pieces.data())] =
        changes(p.x.row(k) + i, p.y.row(k) + i, piece.stop - i, scale(of_x, p.x, k, l),
                scale(of_y, p.y, k, l));
  });
  std::fill(p.out, p.out + shape.clients * segments, 0.0);
  for (int64_t slot = 0; slot < shape.clients * width; ++slot) {
    p.out[slot / width * segments + pieces[slot % width].segment] += slots[slot];
  }
  for (int64_t i = 0; i < shape.clients * segments; ++i) {
    const double mean = p.out[i] / p.segments.length[i % segments];
    p.out[i] = std::isfinite(mean) ? mean : std::numeric_limits<double>::quiet_NaN();
  }
}

template void sensitivity(const Shape&, const Sensitivity<float>&);
template void sensitivity(const Shape&, const Sensitivity<double>&);

}  // namespace fedfast
