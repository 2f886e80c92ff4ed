// A weight gradient by frames: pixels and dout are lifted, multiplied frequency by frequency, and
// only the sums of the whole batch are dropped to taps.
#pragma once

#include "cpu/conv_frames.h"
#include "cpu/conv_square_gradient.h"

namespace fedfast {

template <typename T>
class FrameGradient {
 public:
  explicit FrameGradient(const ConvShape& shape);

  int64_t images() const { return images_; }
  int64_t elements(int64_t outputs) const;  // of workspace

 private:
  template <typename>
  friend class FrameSums;

  int64_t frames(int64_t images) const { return images * static_cast<int64_t>(frames_.size()); }
  Blocks pixels(int64_t images) const { return {inputs_, frames(images), kSpectraB, false}; }
  Blocks results(int64_t outputs, int64_t images) const {
    return {outputs, frames(images), kSpectraA, true};
  }
  // Outputs whose sums are made at once; all, where a batch takes several groups of images.
  int64_t panel(int64_t outputs) const {
    return whole_ ? panel_of_windows(frames(images_), inputs_, outputs) : outputs;
  }
  int64_t sum_plane(int64_t outputs) const { return apart<T>(panel(outputs) * inputs_ * kNumber); }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  Grid grid_;
  std::vector<Frame> frames_;
  int64_t images_, inputs_;
  bool whole_;  // a group of images is a batch
};

// The sums of one client, for some of a group's outputs, in one thread's scratch.
template <typename T>
class FrameSums {
 public:
  FrameSums(const FrameGradient<T>& gradient, int64_t outputs, Workspace<T>& workspace);

  void start() { empty_ = true; }
  // Adds a group of images, `in_image` and `out_image` elements apart. A whole batch is only
  // lifted: its sums are made when they are asked for, some outputs at a time.
  void add(const T* x, int64_t in_image, const T* dout, int64_t out_image, int64_t images);

  // Calls body(place, taps, 0) for each output: its taps lie as they are wanted.
  template <typename Body>
  void give(const Body& body);

 private:
  void lift(const T* x, const T* dout, int64_t first, int64_t images);
  void multiply(int64_t first);
  void drop(int64_t output);

  const FrameGradient<T>& g_;
  const ConvKernels<T>& kernels_;
  int64_t outputs_, images_ = 0;  // images of the last group
  bool empty_ = true;
  T *sums_, *pixels_, *results_, *taps_;
};

template <typename T>
template <typename Body>
void FrameSums<T>::give(const Body& body) {
  const int64_t depth = g_.inputs_ * g_.grid_.taps(), panel = g_.panel(outputs_);
  for (int64_t first = 0; first < outputs_; first += panel) {
    if (g_.whole_) multiply(first);
    for (int64_t o = first; o < std::min(first + panel, outputs_); ++o) {
      drop(o - first);
      body(Place{o, 1, 0, depth}, static_cast<const T*>(taps_), 0);
    }
  }
}

}  // namespace fedfast
