#include "cpu/conv_data_gradient.h"

#include <algorithm>
#include <numeric>

namespace fedfast {
namespace {

constexpr int64_t kTogether = 24;  // places whose windows stay in the first-level cache

}  // namespace

template <typename T>
DataGradient<T>::DataGradient(const ConvShape& shape)
    : shape_(shape),
      product_(plan_data_gradient(shape, conv_kernels<T>().lanes), shape.group_inputs()) {
  const Window& w = shape.window;
  const ConvPlan forward = plan_forward(shape, kernels_.lanes);
  scatters_ = scatter_cost(forward, shape, kernels_.lanes) < product_.cost();
  if (!scatters_) return;
  images_ = forward.images;
  field_height_ = forward.canvas.height;
  field_width_ = forward.canvas.width;
  for (int64_t i = 0; i < images_; ++i) {
    for (int64_t p = 0; p < forward.spots; ++p) {
      at_.push_back(static_cast<int32_t>(i * shape.outputs * forward.spots + p));
      to_.push_back(static_cast<int32_t>(i * fields() + forward.at[p]));
    }
  }
  for (int64_t o = 0; o < shape.group_outputs(); ++o) {
    deep_.push_back(static_cast<int32_t>(o * forward.spots));
  }
  taps_.assign(forward.deep.begin(), forward.deep.begin() + w.taps());
}

template <typename T>
int64_t DataGradient<T>::elements() const {
  const auto rounded = Workspace<T>::rounded;
  if (!scatters_) {
    return rounded(product_.weight_elements()) + rounded(product_.canvas_elements()) +
           rounded(product_.result_elements());
  }
  const int64_t field = fields() * product_.width();
  return rounded(shape_.group_outputs() * shape_.window.taps() * product_.width()) +
         rounded(images_ * field) + rounded(field);
}

template <typename T>
DataPass<T>::DataPass(const DataGradient<T>& gradient, Workspace<T>& workspace)
    : g_(gradient),
      weight_(workspace.zeros(g_.scatters_ ? g_.shape_.group_outputs() * g_.shape_.window.taps() *
                                                 g_.product_.width()
                                           : g_.product_.weight_elements())),
      easel_(g_.product_.plan(), g_.shape_.groups, g_.scatters_ ? nullptr : &workspace),
      results_(workspace.take(g_.scatters_ ? g_.images_ * g_.fields() * g_.product_.width()
                                           : g_.product_.result_elements())),
      planes_(g_.scatters_ ? workspace.take(g_.fields() * g_.product_.width()) : nullptr) {}

template <typename T>
void DataPass<T>::pack(const T* weight) {
  g_.scatters_ ? pack_taps(weight) : g_.product_.pack(weight, g_.shape_.group_outputs(), weight_);
}

// [outputs, inputs, taps] to [taps, outputs, inputs].
template <typename T>
void DataPass<T>::pack_taps(const T* weight) {
  const int64_t outputs = g_.shape_.group_outputs(), inputs = g_.shape_.group_inputs();
  const int64_t taps = g_.shape_.window.taps(), width = g_.product_.width();
  for (int64_t o = 0; o < outputs; ++o) {
    g_.kernels_.transpose(weight + o * inputs * taps, taps, inputs, taps, weight_ + o * width,
                          outputs * width);
  }
}

template <typename T>
void DataPass<T>::run(const T* dout, int64_t images, T* dx) {
  if (g_.scatters_) return scatter(dout, images, dx);
  const int64_t out_image = g_.shape_.outputs * g_.shape_.window.spots();
  const int64_t in_image = g_.shape_.inputs * g_.shape_.window.pixels();
  g_.product_.run(easel_.show(dout, out_image, images), weight_, images, results_, dx, in_image);
}

template <typename T>
void DataPass<T>::scatter(const T* dout, int64_t images, T* dx) {
  const int64_t outputs = g_.shape_.group_outputs(), width = g_.product_.width();
  const int64_t places = images * g_.shape_.window.spots(), field = g_.fields() * width;
  std::fill_n(results_, images * field, T{0});
  for (int64_t p = 0; p < places; p += kTogether) {
    const int64_t count = std::min(kTogether, places - p);
    for (size_t t = 0; t < g_.taps_.size(); ++t) {
      const T* weight = weight_ + t * outputs * width;
      spots_product(dout, &g_.at_[p], count, g_.deep_.data(), outputs, weight, width,
                    results_ + g_.taps_[t] * width, true, &g_.to_[p]);
    }
  }
  for (int64_t i = 0; i < images; ++i) {
    write(results_ + i * field, dx + i * g_.shape_.inputs * g_.shape_.window.pixels());
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
