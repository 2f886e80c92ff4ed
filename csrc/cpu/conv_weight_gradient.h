// How a client's weight gradient is summed, image after image.
#pragma once

#include <algorithm>

#include "cpu/conv.h"

namespace fedfast {

// How the weight gradient is summed: c[tap, output] as spots, or c[output, tap, lane] as rows.
template <typename T>
class WeightGradient {
 public:
  explicit WeightGradient(const ConvShape& shape)
      : plan_(plan_forward(shape, kernels_.lanes)), shape_(shape) {
    by_rows_ = !plan_.segments.empty() &&
               row_gradient_cost(plan_, outputs()) < spots_cost(plan_, outputs(), kernels_.lanes);
  }

  const ConvPlan& plan() const { return plan_; }
  int64_t outputs() const { return shape_.group_outputs(); }
  int64_t taps() const { return plan_.deep.size(); }
  int64_t width() const { return padded_to(outputs(), kernels_.lanes); }
  int64_t sums() const { return taps() * (by_rows_ ? outputs() * kernels_.lanes : width()); }
  int64_t turned() const { return by_rows_ ? 0 : plan_.images * plan_.spots * width(); }
  int64_t canvases() const { return plan_.images * plan_.canvas.size(); }

  // Adds a group of images to `sums`; `turned` is where dout's channels come to lie side by side.
  // `ahead` is asked for meanwhile.
  void add(const T* canvas, const T* dout, int64_t dout_image, int64_t images, T* turned, T* sums,
           Ahead ahead) const {
    if (by_rows_) return add_rows(canvas, dout, dout_image, images, sums);
    for (int64_t i = 0; i < images; ++i) {
      kernels_.transpose(dout + i * dout_image, plan_.spots, outputs(), plan_.spots,
                         turned + i * plan_.spots * width(), width());
    }
    spots_product(canvas, plan_.deep.data(), taps(), plan_.at.data(), images * plan_.spots,
                  static_cast<const T*>(turned), width(), sums, true, nullptr, ahead);
  }

  // The gradient of weight [output, tap].
  T value(const T* sums, int64_t output, int64_t tap) const {
    if (!by_rows_) return sums[tap * width() + output];
    const T* lane = sums + (output * taps() + tap) * kernels_.lanes;
    T sum = 0;
    for (int i = 0; i < kernels_.lanes; ++i) sum += lane[i];
    return sum;
  }

 private:
  void add_rows(const T* canvas, const T* dout, int64_t dout_image, int64_t images, T* sums) const {
    const int64_t segments = plan_.segments.size(), row = taps() * kernels_.lanes;
    for (int64_t i = 0; i < images; ++i, canvas += plan_.canvas.size(), dout += dout_image) {
      for (int64_t o = 0; o < outputs(); o += kernels_.grad_channels) {
        const int64_t channels = std::min<int64_t>(kernels_.grad_channels, outputs() - o);
        for (int64_t t = 0; t < taps(); t += kernels_.grad_taps) {
          const int64_t count = std::min<int64_t>(kernels_.grad_taps, taps() - t);
          kernels_.grad[channels][count]({canvas, plan_.deep.data() + t, plan_.segments.data(),
                                          segments, dout + o * plan_.spots, plan_.spots,
                                          sums + o * row + t * kernels_.lanes, row});
        }
      }
    }
  }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  ConvPlan plan_;
  ConvShape shape_;
  bool by_rows_;
};

}  // namespace fedfast
