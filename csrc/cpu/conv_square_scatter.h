// A data gradient by the squares of the forward convolution, each added to its pixels: fewer
// squares than gathering needs where dx is larger than dout.
#pragma once

#include "cpu/conv_square_weights.h"

namespace fedfast {

template <typename T>
class SquareScatter {
 public:
  explicit SquareScatter(const ConvShape& shape);

  int64_t images() const { return squares_.images; }
  int64_t elements() const;  // of workspace

 private:
  template <typename>
  friend class ScatterPass;

  int64_t in_width() const { return padded_to(outputs_, kernels_.lanes); }
  int64_t out_width() const { return padded_to(inputs_, kernels_.lanes); }
  int64_t widest() const { return kernels_.vectors * kernels_.lanes; }
  int64_t result_rows() const { return squares_.images * squares_.results + 1; }
  int64_t pixel_rows() const { return squares_.images * squares_.inputs + 1; }
  int64_t lifted_row() const { return apart<T>(in_width()); }
  int64_t lifted_plane() const { return apart<T>(squares_.together * lifted_row()); }
  int64_t product_plane() const { return apart<T>(squares_.together * widest()); }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  int64_t inputs_, outputs_;
  Squares squares_;
  std::vector<int32_t> at_, deep_;
};

// One client's work with it, in one thread's scratch.
template <typename T>
class ScatterPass {
 public:
  ScatterPass(const SquareScatter<T>& scatter, Workspace<T>& workspace);

  // One group's weights, [outputs, inputs, taps] of that group.
  void pack(const T* weight) { weights_.pack(weight, s_.outputs_); }

  // At most `images()` images, `out_image` and `in_image` elements apart.
  void run(const T* dout, int64_t out_image, int64_t images, T* dx, int64_t in_image);

 private:
  void multiply(int64_t first, int64_t count);
  void multiply_block(int64_t block, int64_t count, const T* weight, int64_t columns);

  const SquareScatter<T>& s_;
  const ConvKernels<T>& kernels_;
  SquareWeights<T> weights_;
  T *results_, *lifted_, *products_, *pixels_;
};

}  // namespace fedfast
