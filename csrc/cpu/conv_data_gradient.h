// How a client's data gradient is formed: gathered, as a convolution of dout with the weights
// turned round, or scattered, each place of dout adding to its window; both directly or by
// squares; or gathered by frames.
// Scattering multiplies no zeros, which gathering does where dx is larger than dout: without
// padding, and with strides. An unpadded 5 x 5 layer on 14 x 14 pixels is half zeros.
#pragma once

#include <optional>
#include <vector>

#include "cpu/conv_frame_product.h"
#include "cpu/conv_planes.h"
#include "cpu/conv_square_product.h"
#include "cpu/conv_square_scatter.h"

namespace fedfast {

template <typename T>
class DataGradient {
 public:
  explicit DataGradient(const ConvShape& shape);

  bool by_frames() const { return frames_.has_value(); }
  int64_t images() const;
  int64_t elements() const;  // of workspace

 private:
  template <typename>
  friend class DataPass;

  void choose();
  void plan_scattering(const ConvPlan& forward);
  int64_t fields() const { return field_height_ * field_width_; }
  int64_t tap_elements() const {
    return shape_.group_outputs() * shape_.window.taps() * product_.width();
  }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  ConvShape shape_;
  ConvProduct<T> product_;
  std::optional<SquareProduct<T>> squares_;
  std::optional<SquareScatter<T>> square_scatter_;
  std::optional<FrameProduct<T>> frames_;
  bool scatters_ = false;
  int64_t images_ = 1, field_height_ = 0, field_width_ = 0;  // x with its margins
  std::vector<int32_t> at_, to_, deep_, taps_;  // places of dout, their windows; outputs; taps
};

// One client's work with it, in one thread's scratch.
template <typename T>
class DataPass {
 public:
  DataPass(const DataGradient<T>& gradient, Workspace<T>& workspace);

  // One group's weights, [outputs, inputs, taps] of that group.
  void pack(const T* weight);
  // Writes a group's planes of dx for at most `images()` images.
  void run(const T* dout, int64_t images, T* dx);

 private:
  void pack_taps(const T* weight);
  void scatter(const T* dout, int64_t images, T* dx);
  void scatter_places(const T* dout, int64_t first, int64_t count);
  void write(const T* field, T* dx);

  const DataGradient<T>& g_;
  std::optional<SquarePass<T>> squares_;
  std::optional<ScatterPass<T>> square_scatter_;
  std::optional<FramePass<T>> frames_;
  std::optional<Padder<T>> padder_;
  T *weight_ = nullptr, *results_ = nullptr, *planes_ = nullptr;
};

}  // namespace fedfast
