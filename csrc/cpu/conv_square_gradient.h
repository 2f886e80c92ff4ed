// A weight gradient by squares: pixels and dout are lifted, multiplied plane by plane over all
// squares, and only the sums of the whole batch are dropped to taps.
#pragma once

#include "cpu/conv_squares.h"

namespace fedfast {

// Where a piece of a weight gradient, [taps, outputs], belongs among a group's [outputs, taps].
struct Place {
  int64_t output, outputs, tap, taps;
};

template <typename T>
class SquareGradient {
 public:
  explicit SquareGradient(const ConvShape& shape);

  int64_t images() const { return squares_.images; }
  int64_t elements(int64_t outputs) const;  // of workspace

 private:
  template <typename>
  friend class SquareSums;

  int64_t blocks() const { return squares_.blocks.size(); }
  int64_t in_width() const { return padded_to(inputs_, kernels_.lanes); }
  int64_t out_width(int64_t outputs) const { return padded_to(outputs, kernels_.lanes); }
  int64_t widest() const { return kernels_.vectors * kernels_.lanes; }
  int64_t tap_rows() const { return squares_.channels * squares_.taps + 1; }
  int64_t pixel_rows() const { return squares_.images * squares_.inputs + 1; }
  int64_t result_rows() const { return squares_.images * squares_.results + 1; }

  // As in SquareProduct; sums take the place of weights.
  int64_t lifted_row() const { return apart<T>(blocks() * in_width()); }
  int64_t lifted_plane() const { return apart<T>(squares_.together * lifted_row()); }
  int64_t result_plane() const { return apart<T>(squares_.together * widest()); }
  int64_t sum_plane() const { return apart<T>(blocks() * inputs_ * widest()); }
  int64_t sums(int64_t outputs) const {
    return out_width(outputs) / kernels_.lanes * kPlanes * sum_plane();
  }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  Squares squares_;
  int64_t inputs_;
  std::vector<int32_t> at_, deep_;
};

// The sums of one client, for some of a group's outputs, in one thread's scratch.
template <typename T>
class SquareSums {
 public:
  SquareSums(const SquareGradient<T>& gradient, int64_t outputs, Workspace<T>& workspace);

  void start() { empty_ = true; }
  // Adds a group of images, `in_image` and `out_image` elements apart.
  void add(const T* x, int64_t in_image, const T* dout, int64_t out_image, int64_t images);

  // Calls body(place, piece, row) as WeightPass::give does.
  template <typename Body>
  void give(const Body& body);

 private:
  void multiply(int64_t first, int64_t count);
  void multiply_plane(int plane, int64_t count, int64_t columns, T* sums);
  void drop(const T* sums, int64_t first, int64_t count, int64_t columns);

  const SquareGradient<T>& g_;
  const ConvKernels<T>& kernels_;
  int64_t outputs_, width_;
  bool empty_ = true;
  T *sums_, *pixels_, *lifted_, *results_, *lifted_results_, *piece_;
};

template <typename T>
template <typename Body>
void SquareSums<T>::give(const Body& body) {
  const Squares& s = g_.squares_;
  const T* sums = sums_;
  each_panel<T>(width_, [&](int64_t from, int64_t columns) {
    for (int64_t c = 0; c < g_.inputs_; c += s.channels) {
      const int64_t count = std::min(s.channels, g_.inputs_ - c);
      drop(sums, c, count, columns);
      body(Place{from, std::min(columns, outputs_ - from), c * s.taps, count * s.taps},
           static_cast<const T*>(piece_), columns);
    }
    sums += kPlanes * g_.sum_plane();
  });
}

}  // namespace fedfast
