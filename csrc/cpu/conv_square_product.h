// A convolution's results by squares, or its data gradient: dout with the taps turned round.
#pragma once

#include "cpu/conv_squares.h"

namespace fedfast {

template <typename T>
class SquareProduct {
 public:
  // `depth` channels of an image become `channels`.
  SquareProduct(const Grid& grid, int64_t batch, int64_t depth, int64_t channels, bool turned);

  int64_t images() const { return squares_.images; }
  int64_t elements() const;  // of workspace

 private:
  template <typename>
  friend class SquarePass;

  int64_t in_width() const { return padded_to(depth_, kernels_.lanes); }
  int64_t out_width() const { return padded_to(channels_, kernels_.lanes); }
  int64_t widest() const { return kernels_.vectors * kernels_.lanes; }
  int64_t weight_plane() const { return plane_of<T>(depth_, widest()); }
  int64_t lifted_plane() const { return plane_of<T>(squares_.together, in_width()); }
  int64_t product_plane() const { return plane_of<T>(squares_.together, widest()); }
  int64_t panels() const { return out_width() / kernels_.lanes; }  // at most
  int64_t pixel_rows() const { return squares_.images * squares_.inputs + 1; }
  int64_t result_rows() const { return squares_.images * squares_.results + 1; }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  Squares squares_;
  int64_t depth_, channels_;
  std::vector<int32_t> taps_at_, at_, deep_;
};

// One client's work with it, in one thread's scratch.
template <typename T>
class SquarePass {
 public:
  SquarePass(const SquareProduct<T>& product, Workspace<T>& workspace);

  // Weights [outer, channels, inner], outer * inner = depth * 9; outer is 1 or depth.
  void pack(const T* weight, int64_t outer);

  // At most `images()` images, `in_image` and `out_image` elements apart.
  void run(const T* x, int64_t in_image, int64_t images, T* out, int64_t out_image,
           const T* bias = nullptr, Act act = Act::none);

 private:
  void pack_panel(const T* weight, int64_t outer, int64_t from, int64_t columns, T* to);
  void multiply(int64_t first, int64_t count);

  const SquareProduct<T>& p_;
  const ConvKernels<T>& kernels_;
  T *weight_, *taps_, *pixels_, *lifted_, *products_, *results_;
};

}  // namespace fedfast
