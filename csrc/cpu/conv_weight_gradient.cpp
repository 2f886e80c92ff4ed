#include "cpu/conv_weight_gradient.h"

#include <algorithm>
#include <cmath>

namespace fedfast {

template <typename T>
WeightGradient<T>::WeightGradient(const ConvShape& shape)
    : shape_(shape), plan_(plan_forward(shape, conv_kernels<T>().lanes)) {
  const int64_t outputs = shape.group_outputs();
  const double rows = plan_.segments.empty() ? HUGE_VAL : row_gradient_cost(plan_, outputs);
  const double spots = spots_cost(plan_, outputs, kernels_.lanes);
  by_rows_ = rows < spots;
  if (!has_squares(shape.window)) return;
  const Grid grid = forward_grid(shape.window);
  const int64_t batch = shape.batch, inputs = shape.group_inputs();
  const double least = std::min(rows, spots);
  const double squares = squares_cost(grid, batch, inputs, outputs, kernels_.lanes);
  if (has_frames<T>(shape.window, inputs, outputs) &&
      frames_cost(grid, batch, inputs, outputs, kernels_.lanes) <
          std::min({squares, spots, 0.7 * rows})) {  // where rows win they take less than estimated
    frames_.emplace(shape);
  } else if (squares < least) {
    squares_.emplace(shape);
  }
}

template <typename T>
int64_t WeightGradient<T>::elements(int64_t outputs) const {
  const auto rounded = Workspace<T>::rounded;
  if (frames_) return frames_->elements(outputs);
  if (squares_) return squares_->elements(outputs);
  return rounded(sums(outputs)) + rounded(turned(outputs)) + rounded(piece(outputs)) +
         rounded(plan_.images * plan_.padded.size());
}

template <typename T>
WeightPass<T>::WeightPass(const WeightGradient<T>& gradient, int64_t outputs,
                          Workspace<T>& workspace)
    : g_(gradient), kernels_(g_.kernels_), outputs_(outputs), width_(g_.width(outputs)) {
  const ConvShape& s = g_.shape_;
  in_image_ = s.inputs * s.window.pixels();
  out_image_ = s.outputs * s.window.spots();
  if (g_.frames_) {
    frames_.emplace(*g_.frames_, outputs, workspace);
    return;
  }
  if (g_.squares_) {
    squares_.emplace(*g_.squares_, outputs, workspace);
    return;
  }
  sums_ = workspace.take(g_.sums(outputs));
  turned_ = workspace.zeros(g_.turned(outputs));
  piece_ = workspace.take(g_.piece(outputs));
  padder_.emplace(g_.plan_, s.groups, &workspace);
}

template <typename T>
void WeightPass<T>::start() {
  if (frames_) return frames_->start();
  if (squares_) return squares_->start();
  std::fill_n(sums_, g_.sums(outputs_), T{0});
}

template <typename T>
void WeightPass<T>::add(const T* x, const T* dout, int64_t images, Ahead ahead) {
  if (frames_) return frames_->add(x, in_image_, dout, out_image_, images);
  if (squares_) return squares_->add(x, in_image_, dout, out_image_, images);
  const T* padded = padder_->pad(x, in_image_, images);
  g_.by_rows_ ? add_rows(padded, dout, images) : add_spots(padded, dout, images, ahead);
}

template <typename T>
void WeightPass<T>::add_spots(const T* padded, const T* dout, int64_t images, Ahead ahead) {
  const int64_t spots = g_.plan_.spots, depth = images * spots;
  each_panel<T>(width_, [&](int64_t from, int64_t columns) {
    const int64_t outputs = std::min(columns, outputs_ - from);
    for (int64_t i = 0; i < images; ++i) {
      kernels_.transpose(dout + i * out_image_ + from * spots, spots, outputs, spots,
                         turned_ + from * depth + i * spots * columns, columns);
    }
  });
  spots_product(padded, g_.plan_.deep.data(), g_.taps(), g_.plan_.at.data(), depth,
                static_cast<const T*>(turned_), width_, sums_, true, nullptr, ahead);
}

template <typename T>
void WeightPass<T>::add_rows(const T* padded, const T* dout, int64_t images) {
  const ConvPlan& plan = g_.plan_;
  const int64_t segments = plan.segments.size(), row = g_.taps() * kernels_.lanes;
  for (int64_t i = 0; i < images; ++i, padded += plan.padded.size(), dout += out_image_) {
    for (int64_t o = 0; o < outputs_; o += kernels_.grad_channels) {
      const int64_t channels = std::min<int64_t>(kernels_.grad_channels, outputs_ - o);
      for (int64_t t = 0; t < g_.taps(); t += kernels_.grad_taps) {
        const int64_t count = std::min<int64_t>(kernels_.grad_taps, g_.taps() - t);
        kernels_.grad[channels][count]({padded, plan.deep.data() + t, plan.segments.data(),
                                        segments, dout + o * plan.spots, plan.spots,
                                        sums_ + o * row + t * kernels_.lanes, row});
      }
    }
  }
}

template <typename T>
void WeightPass<T>::fold_lanes(const Place& place) {
  for (int64_t t = 0; t < place.taps; ++t) {
    for (int64_t o = 0; o < outputs_; ++o) {
      const T* lane = sums_ + (o * g_.taps() + place.tap + t) * kernels_.lanes;
      T sum = 0;
      for (int i = 0; i < kernels_.lanes; ++i) sum += lane[i];
      piece_[t * width_ + o] = sum;
    }
  }
}

template class WeightGradient<float>;
template class WeightGradient<double>;
template class WeightPass<float>;
template class WeightPass<double>;

}  // namespace fedfast
