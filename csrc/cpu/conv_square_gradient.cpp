#include "cpu/conv_square_gradient.h"

#include <algorithm>

namespace fedfast {
namespace {

constexpr int64_t kTogether = 128;  // squares that pay for reading and writing the sums

}  // namespace

template <typename T>
SquareGradient<T>::SquareGradient(const ConvShape& shape) : inputs_(shape.group_inputs()) {
  squares_ = squares_of(forward_grid(shape.window), shape.batch, kTogether);
  taps_at_ = taps_at(kTapChannels, false);
  at_ = steps_of(inputs_, 1);
  deep_ = steps_of(squares_.together, in_width());
}

template <typename T>
int64_t SquareGradient<T>::elements(int64_t outputs) const {
  const auto rounded = Workspace<T>::rounded;
  const int64_t panels = out_width(outputs) / kernels_.lanes;
  return panels * rounded(kPlanes * sum_plane()) +
         rounded((squares_.images * squares_.inputs + 1) * in_width()) +
         rounded(kPlanes * lifted_plane()) +
         rounded((squares_.images * squares_.results + 1) * out_width(outputs)) +
         rounded(kPlanes * result_plane()) + rounded(kPieceTaps * widest());
}

template <typename T>
SquareSums<T>::SquareSums(const SquareGradient<T>& gradient, int64_t outputs,
                          Workspace<T>& workspace)
    : g_(gradient), kernels_(g_.kernels_), outputs_(outputs), width_(g_.out_width(outputs)) {
  const Squares& s = g_.squares_;
  sums_ = workspace.take(width_ / kernels_.lanes * kPlanes * g_.sum_plane());
  pixels_ = workspace.zeros((s.images * s.inputs + 1) * g_.in_width());
  lifted_ = workspace.take(kPlanes * g_.lifted_plane());
  results_ = workspace.zeros((s.images * s.results + 1) * width_);
  lifted_results_ = workspace.take(kPlanes * g_.result_plane());
  piece_ = workspace.take(kPieceTaps * g_.widest());
}

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
  kernels_.lift_pixels({pixels_, g_.in_width(), &s.from[first * 16], count, g_.in_width(), lifted_,
                        g_.lifted_plane()});
  T* sums = sums_;
  each_panel<T>(width_, [&](int64_t from, int64_t columns) {
    kernels_.lift_results({results_ + from, width_, &s.to[first * 4], count, columns,
                           lifted_results_, g_.result_plane()});
    for (int64_t i = 0; i < kPlanes; ++i) {
      panel_product<T>(lifted_ + i * g_.lifted_plane(), g_.at_.data(), g_.inputs_, g_.deep_.data(),
                       count, lifted_results_ + i * g_.result_plane(), columns,
                       sums + i * g_.sum_plane(), columns, !empty_);
    }
    sums += kPlanes * g_.sum_plane();
  });
}

template class SquareGradient<float>;
template class SquareGradient<double>;
template class SquareSums<float>;
template class SquareSums<double>;

}  // namespace fedfast
