// A convolution's results by frames, or its data gradient: dout with the taps turned round.
#pragma once

#include "cpu/conv_frames.h"

namespace fedfast {

template <typename T>
class FrameProduct {
 public:
  // `depth` channels of an image become `channels`.
  FrameProduct(const Grid& grid, int64_t batch, int64_t depth, int64_t channels);

  int64_t images() const { return images_; }
  int64_t elements() const;  // of workspace

 private:
  template <typename>
  friend class FramePass;

  int64_t frames(int64_t images) const { return images * static_cast<int64_t>(frames_.size()); }
  Blocks weights() const { return {panel_, depth_, kSpectraA, true}; }
  Blocks lifted(int64_t images) const { return {frames(images), depth_, kSpectraB, false}; }
  int64_t product_plane() const { return apart<T>(frames(images_) * channels_ * kNumber); }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  Grid grid_;
  std::vector<Frame> frames_;
  int64_t images_, depth_, channels_, panel_;
};

// One client's work with it, in one thread's scratch.
template <typename T>
class FramePass {
 public:
  FramePass(const FrameProduct<T>& product, Workspace<T>& workspace);

  // Weights [outer, channels, inner], outer * inner = depth * taps; outer is 1 or depth.
  // They are read until another group's are given.
  void pack(const T* weight, int64_t outer);

  // At most `images()` images, `in_image` and `out_image` elements apart.
  void run(const T* x, int64_t in_image, int64_t images, T* out, int64_t out_image,
           const T* bias = nullptr, Act act = Act::none);

 private:
  void lift(const T* image, int64_t first, const Blocks& lifted);
  void lift_weights(int64_t first);
  void multiply(const Blocks& lifted, int64_t first);
  void drop(const T* image, int64_t first, T* out, const T* bias, Act act);

  const FrameProduct<T>& p_;
  const ConvKernels<T>& kernels_;
  const T* weight_ = nullptr;
  int64_t outer_ = 1;
  T *weights_, *turned_, *lifted_, *products_;
};

}  // namespace fedfast
