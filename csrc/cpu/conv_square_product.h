// A convolution's results by squares, or its data gradient: dout with the taps turned round.
#pragma once

#include "cpu/conv_square_weights.h"

namespace fedfast {

template <typename T>
class SquareProduct {
 public:
  // `depth` channels of an image become `channels`.
  SquareProduct(const Grid& grid, int64_t batch, int64_t depth, int64_t channels);

  int64_t images() const { return squares_.images; }
  int64_t elements() const;  // of workspace

 private:
  template <typename>
  friend class SquarePass;

  int64_t blocks() const { return squares_.blocks.size(); }
  int64_t in_width() const { return padded_to(depth_, kernels_.lanes); }
  int64_t out_width() const { return padded_to(channels_, kernels_.lanes); }
  int64_t widest() const { return kernels_.vectors * kernels_.lanes; }
  int64_t pixel_rows() const { return squares_.images * squares_.inputs + 1; }
  int64_t result_rows() const { return squares_.images * squares_.results + 1; }

  // Blocks lie side by side in rows of lifted pixels.
  int64_t lifted_row() const { return apart<T>(blocks() * in_width()); }
  int64_t lifted_plane() const { return apart<T>(squares_.together * lifted_row()); }
  int64_t product_plane() const { return apart<T>(squares_.together * widest()); }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  Squares squares_;
  int64_t depth_, channels_;
  std::vector<int32_t> at_, deep_;
};

// One client's work with it, in one thread's scratch.
template <typename T>
class SquarePass {
 public:
  SquarePass(const SquareProduct<T>& product, Workspace<T>& workspace);

  // Weights [outer, channels, inner], outer * inner = depth * taps; outer is 1 or depth.
  void pack(const T* weight, int64_t outer) { weights_.pack(weight, outer); }

  // At most `images()` images, `in_image` and `out_image` elements apart.
  void run(const T* x, int64_t in_image, int64_t images, T* out, int64_t out_image,
           const T* bias = nullptr, Act act = Act::none);

 private:
  void lift(int64_t first, int64_t count);
  void multiply(int64_t first, int64_t count);
  void multiply_plane(int plane, int64_t count, const T* weight, int64_t columns, Ahead ahead);

  const SquareProduct<T>& p_;
  const ConvKernels<T>& kernels_;
  SquareWeights<T> weights_;
  T *pixels_, *lifted_, *products_, *results_;
};

}  // namespace fedfast
