#include "cpu/conv_square_gradient.h"

#include <algorithm>

namespace fedfast {
namespace {

// Squares that pay for reading and writing the sums, and whose planes the second cache holds.
constexpr int64_t kTogether = 128, kTogetherInBlocks = 64;

}  // namespace

template <typename T>
SquareGradient<T>::SquareGradient(const ConvShape& shape) : inputs_(shape.group_inputs()) {
  const bool several = shape.window.kh > 3 || shape.window.kw > 3;
  squares_ =
      squares_of(forward_grid(shape.window), shape.batch, several ? kTogetherInBlocks : kTogether);
  deep_ = steps_of(squares_.together, lifted_row());
  for (int64_t b = 0; b < blocks(); ++b) {
    for (int64_t c = 0; c < inputs_; ++c) at_.push_back(static_cast<int32_t>(b * in_width() + c));
  }
}

template <typename T>
int64_t SquareGradient<T>::elements(int64_t outputs) const {
  const auto rounded = Workspace<T>::rounded;
  return rounded(sums(outputs)) + rounded(pixel_rows() * in_width()) +
         rounded(kPlanes * lifted_plane()) + rounded(result_rows() * out_width(outputs)) +
         rounded(kPlanes * result_plane()) + rounded(tap_rows() * widest());
}

template <typename T>
SquareSums<T>::SquareSums(const SquareGradient<T>& gradient, int64_t outputs,
                          Workspace<T>& workspace)
    : g_(gradient),
      kernels_(g_.kernels_),
      outputs_(outputs),
      width_(g_.out_width(outputs)),
      sums_(workspace.take(g_.sums(outputs))),
      pixels_(workspace.zeros(g_.pixel_rows() * g_.in_width())),
      lifted_(workspace.take(kPlanes * g_.lifted_plane())),
      results_(workspace.zeros(g_.result_rows() * width_)),
      lifted_results_(workspace.take(kPlanes * g_.result_plane())),
      piece_(workspace.take(g_.tap_rows() * g_.widest())) {}

template <typename T>
void SquareSums<T>::add(const T* x, int64_t in_image, const T* dout, int64_t out_image,
                        int64_t images) {
  const Squares& s = g_.squares_;
  for (int64_t i = 0; i < images; ++i) {
    kernels_.transpose(x + i * in_image, s.inputs, g_.inputs_, s.inputs,
                       pixels_ + i * s.inputs * g_.in_width(), g_.in_width());
    kernels_.transpose(dout + i * out_image, s.results, outputs_, s.results,
                       results_ + i * s.results * width_, width_);
  }
  each(Cut(images * s.each, s.together), [&](int64_t first, int64_t count) {
    multiply(first, count);
    empty_ = false;
  });
}

template <typename T>
void SquareSums<T>::multiply(int64_t first, int64_t count) {
  const Squares& s = g_.squares_;
  for (int64_t b = 0; b < g_.blocks(); ++b) {
    kernels_.lift_pixels({pixels_, g_.in_width(), s.block_pixels(b, first), count, g_.in_width(),
                          lifted_ + b * g_.in_width(), g_.lifted_plane(), g_.lifted_row()});
  }
  T* sums = sums_;
  each_panel<T>(width_, [&](int64_t from, int64_t columns) {
    kernels_.lift_results({results_ + from, width_, &s.results_at[first * 4], count, columns,
                           lifted_results_, g_.result_plane(), columns});
    for (int i = 0; i < kPlanes; ++i, sums += g_.sum_plane()) {
      multiply_plane(i, count, columns, sums);
    }
  });
}

template <typename T>
void SquareSums<T>::multiply_plane(int plane, int64_t count, int64_t columns, T* sums) {
  for (const Run& run : g_.squares_.runs[plane]) {
    const int64_t first = run.first * g_.inputs_;
    panel_product<T>(lifted_ + plane * g_.lifted_plane(), &g_.at_[first], run.count * g_.inputs_,
                     g_.deep_.data(), count, lifted_results_ + plane * g_.result_plane(), columns,
                     sums + first * columns, columns, !empty_);
  }
}

// The taps of `count` channels from `first` on.
template <typename T>
void SquareSums<T>::drop(const T* sums, int64_t first, int64_t count, int64_t columns) {
  for (int64_t b = 0; b < g_.blocks(); ++b) {
    kernels_.drop_taps({sums + (b * g_.inputs_ + first) * columns, g_.sum_plane(), columns, count,
                        columns, piece_, columns, g_.squares_.block_taps(b)});
  }
}

template class SquareGradient<float>;
template class SquareGradient<double>;
template class SquareSums<float>;
template class SquareSums<double>;

}  // namespace fedfast
