#include "cpu/conv_data_gradient.h"

#include <algorithm>

#include "cpu/parallel.h"

namespace fedfast {
namespace {

constexpr int64_t kTogether = 24;  // places whose windows stay in the first-level cache

}  // namespace

template <typename T>
DataGradient<T>::DataGradient(const ConvShape& shape)
    : shape_(shape),
      product_(plan_data_gradient(shape, conv_kernels<T>().lanes), shape.group_inputs()) {
  choose();
}

template <typename T>
void DataGradient<T>::choose() {
  const int64_t depth = shape_.group_outputs(), channels = shape_.group_inputs();
  const int64_t batch = shape_.batch, lanes = kernels_.lanes;
  const ConvPlan forward = plan_forward(shape_, lanes);
  const double scattered = scatter_cost(forward, shape_, lanes), gathered = product_.cost();
  const double least = std::min(scattered, gathered);
  if (has_squares(shape_.window)) {
    const Grid back = data_gradient_grid(shape_.window), grid = forward_grid(shape_.window);
    const double gather = squares_cost(back, batch, depth, channels, lanes);
    const double scatter = square_scatter_cost(grid, batch, depth, channels, lanes);
    if (has_frames<T>(shape_.window, depth, channels) &&
        frames_cost(back, batch, depth, channels, lanes) < std::min({gather, scatter, least})) {
      return void(frames_.emplace(back, batch, depth, channels));
    }
    if (scatter < std::min(gather, least)) return void(square_scatter_.emplace(shape_));
    if (gather < least) return void(squares_.emplace(back, batch, depth, channels));
  }
  if (scattered < gathered) plan_scattering(forward);
}

template <typename T>
int64_t DataGradient<T>::images() const {
  if (frames_) return frames_->images();
  if (squares_) return squares_->images();
  if (square_scatter_) return square_scatter_->images();
  return scatters_ ? images_ : product_.plan().images;
}

template <typename T>
void DataGradient<T>::plan_scattering(const ConvPlan& forward) {
  scatters_ = true;
  images_ = forward.images;
  field_height_ = forward.padded.height;
  field_width_ = forward.padded.width;
  for (int64_t i = 0; i < images_; ++i) {
    for (int64_t p = 0; p < forward.spots; ++p) {
      at_.push_back(static_cast<int32_t>(i * shape_.outputs * forward.spots + p));
      to_.push_back(static_cast<int32_t>(i * fields() + forward.at[p]));
    }
  }
  for (int64_t o = 0; o < shape_.group_outputs(); ++o) {
    deep_.push_back(static_cast<int32_t>(o * forward.spots));
  }
  taps_.assign(forward.deep.begin(), forward.deep.begin() + shape_.window.taps());
}

template <typename T>
int64_t DataGradient<T>::elements() const {
  const auto rounded = Workspace<T>::rounded;
  if (frames_) return frames_->elements();
  if (squares_) return squares_->elements();
  if (square_scatter_) return square_scatter_->elements();
  if (!scatters_) {
    return rounded(product_.weight_elements()) + rounded(product_.padded_elements()) +
           rounded(product_.result_elements());
  }
  const int64_t field = fields() * product_.width();
  return rounded(tap_elements()) + rounded(images_ * field) + rounded(field);
}

template <typename T>
DataPass<T>::DataPass(const DataGradient<T>& gradient, Workspace<T>& workspace) : g_(gradient) {
  if (g_.frames_) {
    frames_.emplace(*g_.frames_, workspace);
  } else if (g_.squares_) {
    squares_.emplace(*g_.squares_, workspace);
  } else if (g_.square_scatter_) {
    square_scatter_.emplace(*g_.square_scatter_, workspace);
  } else if (g_.scatters_) {
    weight_ = workspace.zeros(g_.tap_elements());
    results_ = workspace.take(g_.images_ * g_.fields() * g_.product_.width());
    planes_ = workspace.take(g_.fields() * g_.product_.width());
  } else {
    weight_ = workspace.zeros(g_.product_.weight_elements());
    padder_.emplace(g_.product_.plan(), g_.shape_.groups, &workspace);
    results_ = workspace.take(g_.product_.result_elements());
  }
}

template <typename T>
void DataPass<T>::pack(const T* weight) {
  const int64_t outer = g_.shape_.group_outputs();
  if (frames_) return frames_->pack(weight, outer);
  if (squares_) return squares_->pack(weight, outer);
  if (square_scatter_) return square_scatter_->pack(weight);
  g_.scatters_ ? pack_taps(weight) : g_.product_.pack(weight, outer, weight_);
}

// [outputs, inputs, taps] to [taps, outputs, inputs].
template <typename T>
void DataPass<T>::pack_taps(const T* weight) {
  const int64_t outputs = g_.shape_.group_outputs(), inputs = g_.shape_.group_inputs();
  const int64_t taps = g_.shape_.window.taps(), width = g_.product_.width();
  each_panel<T>(width, [&](int64_t from, int64_t columns) {
    const int64_t channels = std::min(columns, inputs - from);
    for (int64_t o = 0; o < outputs; ++o) {
      g_.kernels_.transpose(weight + (o * inputs + from) * taps, taps, channels, taps,
                            weight_ + from * outputs + o * columns, outputs * width);
    }
  });
}

template <typename T>
void DataPass<T>::run(const T* dout, int64_t images, T* dx) {
  if (g_.scatters_) return scatter(dout, images, dx);
  const int64_t out_image = g_.shape_.outputs * g_.shape_.window.spots();
  const int64_t in_image = g_.shape_.inputs * g_.shape_.window.pixels();
  if (frames_) return frames_->run(dout, out_image, images, dx, in_image);
  if (squares_) return squares_->run(dout, out_image, images, dx, in_image);
  if (square_scatter_) return square_scatter_->run(dout, out_image, images, dx, in_image);
  g_.product_.run(padder_->pad(dout, out_image, images), weight_, images, results_, dx, in_image);
}

// Places are taken together within an image, or whole images: which other images there are never
// changes the order in which a window's places are added.
template <typename T>
void DataPass<T>::scatter(const T* dout, int64_t images, T* dx) {
  const int64_t spots = g_.shape_.window.spots(), field = g_.fields() * g_.product_.width();
  const int64_t whole = std::max<int64_t>(1, kTogether / spots) * spots;
  std::fill_n(results_, images * field, T{0});
  Range{0, images * spots}.each(whole, [&](int64_t first, int64_t places) {
    Range{first, first + places}.each(
        kTogether, [&](int64_t p, int64_t count) { scatter_places(dout, p, count); });
  });
  for (int64_t i = 0; i < images; ++i) {
    write(results_ + i * field, dx + i * g_.shape_.inputs * g_.shape_.window.pixels());
  }
}

template <typename T>
void DataPass<T>::scatter_places(const T* dout, int64_t first, int64_t count) {
  const int64_t outputs = g_.shape_.group_outputs(), width = g_.product_.width();
  for (size_t t = 0; t < g_.taps_.size(); ++t) {
    const T* weight = weight_ + t * outputs * width;
    spots_product(dout, &g_.at_[first], count, g_.deep_.data(), outputs, weight, width,
                  results_ + g_.taps_[t] * width, true, &g_.to_[first]);
  }
}

// Turns a field's channels into planes and leaves the margins behind.
template <typename T>
void DataPass<T>::write(const T* field, T* dx) {
  const Window& w = g_.shape_.window;
  const int64_t inputs = g_.shape_.group_inputs(), width = g_.product_.width();
  const bool margins = g_.fields() != w.pixels();
  T* planes = margins ? planes_ : dx;
  g_.kernels_.transpose(field, width, g_.fields(), inputs, planes, g_.fields());
  if (!margins) return;
  for (int64_t c = 0; c < inputs; ++c) {
    for (int64_t y = 0; y < w.height; ++y) {
      const T* row = planes + (c * g_.field_height_ + y + w.ph) * g_.field_width_ + w.pw;
      std::copy_n(row, w.width, dx + (c * w.height + y) * w.width);
    }
  }
}

template class DataGradient<float>;
template class DataGradient<double>;
template class DataPass<float>;
template class DataPass<double>;

}  // namespace fedfast
