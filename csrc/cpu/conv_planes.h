// What happens to whole planes around a convolution's products.
#pragma once

#include "cpu/conv.h"

namespace fedfast {

// Shows the kernels a group of images: painted on canvases, or where they lie if they need none.
template <typename T>
class Easel {
 public:
  // Without a workspace nothing can be shown.
  Easel(const ConvPlan& plan, int64_t groups, Workspace<T>* workspace)
      : canvas_(plan.canvas), in_place_(groups == 1 && plan.canvas.is_source()) {
    if (!in_place_ && workspace) memory_ = workspace->zeros(plan.images * canvas_.size());
  }

  const T* show(const T* images, int64_t image_stride, int64_t count) const {
    if (in_place_) return images;
    for (int64_t i = 0; i < count; ++i) {
      paint(canvas_, images + i * image_stride, memory_ + i * canvas_.size());
    }
    return memory_;
  }

 private:
  const Canvas& canvas_;
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
