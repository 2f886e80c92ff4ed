#include "cpu/conv_square_weights.h"

#include <algorithm>

namespace fedfast {
namespace {

template <typename T>
int64_t widest() {
  return conv_kernels<T>().vectors * conv_kernels<T>().lanes;
}

template <typename T>
int64_t plane_of(const Squares& s, int64_t depth) {
  return apart<T>(static_cast<int64_t>(s.blocks.size()) * depth * widest<T>());
}

// Panels are at most so many: the narrowest has one vector.
template <typename T>
int64_t lifted_elements(const Squares& s, int64_t depth, int64_t channels) {
  const int64_t lanes = conv_kernels<T>().lanes;
  return padded_to(channels, lanes) / lanes * kPlanes * plane_of<T>(s, depth);
}

template <typename T>
int64_t tap_elements(const Squares& s) {
  return (s.channels * s.taps + 1) * widest<T>();
}

}  // namespace

template <typename T>
int64_t SquareWeights<T>::elements(const Squares& s, int64_t depth, int64_t channels) {
  const auto rounded = Workspace<T>::rounded;
  return rounded(lifted_elements<T>(s, depth, channels)) + rounded(tap_elements<T>(s));
}

template <typename T>
SquareWeights<T>::SquareWeights(const Squares& squares, int64_t depth, int64_t channels,
                                Workspace<T>& workspace)
    : squares_(squares),
      depth_(depth),
      channels_(channels),
      plane_(plane_of<T>(squares, depth)),
      lifted_(workspace.take(lifted_elements<T>(squares, depth, channels))),
      taps_(workspace.zeros(tap_elements<T>(squares))) {}

template <typename T>
void SquareWeights<T>::pack(const T* weight, int64_t outer) {
  T* to = lifted_;
  const int64_t inner = depth_ * squares_.taps / outer;
  each_panel<T>(padded_to(channels_, kernels_.lanes), [&](int64_t from, int64_t columns) {
    pack_panel(weight + from * inner, outer, std::min(columns, channels_ - from), columns, to);
    to += kPlanes * plane_;
  });
}

template <typename T>
void SquareWeights<T>::pack_panel(const T* weight, int64_t outer, int64_t channels, int64_t columns,
                                  T* to) {
  const Squares& s = squares_;
  std::fill_n(taps_ + s.channels * s.taps * columns, columns, T{0});
  for (int64_t d = 0; d < depth_; d += s.channels) {
    const int64_t count = std::min(s.channels, depth_ - d);
    turn(weight + d * s.taps * (outer == 1 ? 1 : channels_), outer, count, channels, columns);
    for (size_t b = 0; b < s.blocks.size(); ++b) {
      kernels_.lift_taps({taps_, columns, s.block_taps(b), count, columns,
                          to + (static_cast<int64_t>(b) * depth_ + d) * columns, plane_, columns});
    }
  }
}

// The taps of `count` channels of the depth, each a row of a panel's columns.
template <typename T>
void SquareWeights<T>::turn(const T* weight, int64_t outer, int64_t count, int64_t channels,
                            int64_t columns) {
  const int64_t taps = squares_.taps;
  if (outer == 1) {
    kernels_.transpose(weight, depth_ * taps, channels, count * taps, taps_, columns);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    kernels_.transpose(weight + i * channels_ * taps, taps, channels, taps,
                       taps_ + i * taps * columns, columns);
  }
}

template class SquareWeights<float>;
template class SquareWeights<double>;

}  // namespace fedfast
