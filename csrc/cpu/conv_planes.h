// What happens to whole planes around a convolution's products.
#pragma once

#include "cpu/conv.h"

namespace fedfast {

// A group of images as the kernels read them: copied with margins, or in place if they need none.
template <typename T>
class Padder {
 public:
  // Without a workspace only images in place can be read.
  Padder(const ConvPlan& plan, int64_t groups, Workspace<T>* workspace)
      : image_(plan.padded), in_place_(groups == 1 && plan.padded.is_source()) {
    if (!in_place_ && workspace) memory_ = workspace->zeros(plan.images * image_.size());
  }

  const T* pad(const T* images, int64_t image_stride, int64_t count) const {
    if (in_place_) return images;
    for (int64_t i = 0; i < count; ++i) {
      pad_image(image_, images + i * image_stride, memory_ + i * image_.size());
    }
    return memory_;
  }

 private:
  const PaddedImage& image_;
  bool in_place_;
  T* memory_ = nullptr;
};

// dout *= act'(out).
template <typename T>
void undo_act(T* dout, const T* out, int64_t size, Act act);

// The sum of a plane, added in one order.
template <typename T>
double plane_sum(const T* plane, int64_t size);

}  // namespace fedfast
