// One client's weights lifted to sixteen planes, in one thread's scratch.
#pragma once

#include "cpu/conv_squares.h"

namespace fedfast {

template <typename T>
class SquareWeights {
 public:
  SquareWeights(const Squares& squares, int64_t depth, int64_t channels, Workspace<T>& workspace);

  static int64_t elements(const Squares& squares, int64_t depth, int64_t channels);

  // Weights [outer, channels, inner], outer * inner = depth * taps; outer is 1 or depth.
  void pack(const T* weight, int64_t outer);

  // Panel after panel, each sixteen planes `plane()` apart of [blocks, depth, columns].
  const T* panels() const { return lifted_; }
  int64_t plane() const { return plane_; }

 private:
  void pack_panel(const T* weight, int64_t outer, int64_t channels, int64_t columns, T* to);
  void turn(const T* weight, int64_t outer, int64_t count, int64_t channels, int64_t columns);

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  const Squares& squares_;
  int64_t depth_, channels_, plane_;
  T *lifted_, *taps_;
};

}  // namespace fedfast
