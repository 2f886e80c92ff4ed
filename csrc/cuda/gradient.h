// From logits to the gradients at all layers, and what blocks tell each other.
#pragma once
#include "cuda/batches.h"

namespace fedfast::cuda {

struct Gradient : Batches {
  int exchanged = 0;  // how often the cluster has exchanged sums: banks take turns

  FEDFAST_DEVICE explicit Gradient(const Launch& launch) : Batches(launch) {}

  FEDFAST_DEVICE static float relu(float z) { return z < 0.f ? 0.f : z; }

  FEDFAST_DEVICE void set_value(const Layer& layer, int b, int u, float z) const {
    at(layer.z)[b * layer.stride + u] = z, at(layer.h)[b * layer.stride + u] = relu(z);
  }

  FEDFAST_DEVICE float* bank() const { return at(s.exchange) + exchanged % 2 * s.part; }

  // The sum over all blocks, in their order, of what lies i floats into their banks.
  FEDFAST_DEVICE float over_blocks(int i) const {
    float sum = 0.f;
    for (int r = 0; r < p.plan.blocks; ++r) sum += grid::peer(bank(), r)[i];
    return sum;
  }

  FEDFAST_DEVICE float softmax() const {
    const float share = 1.f / count;
    for (int b = grid::thread() / kLanes; b < count; b += kWarps) {
      const float* logits = at(s.logits) + b * s.logit_stride;
      softmax_of(b, logits, at(s.d2) + b * s.logit_stride, share);
    }
    grid::sync();
    double sum = 0;
    for (int b = 0; b < count; ++b) sum += losses()[b];
    return static_cast<float>(sum / count);
  }

  // A warp's: its lanes share the classes.
  FEDFAST_DEVICE void softmax_of(int b, const float* logits, float* d2, float share) const {
    const int classes = p.model.classes, lane = grid::thread() % kLanes, y = labels()[b];
    float most = logits[0], sum = 0.f;
    for (int c = 1; c < classes; ++c) most = fmaxf(most, logits[c]);
    for (int c = lane; c < classes; c += kLanes) sum += d2[c] = exponential(logits[c] - most);
    sum = grid::total(sum);
    for (int c = lane; c < classes; c += kLanes) {
      d2[c] = (d2[c] / sum - (c == y ? 1.f : 0.f)) * share;
    }
    const double own = y < 0 ? NAN : double(most) - double(logits[y]);
    if (lane == 0) losses()[b] = log(double(sum)) + own;
  }

  // The sum over n rows of w of their gradient d times column u.
  FEDFAST_DEVICE static float chain(const float* d, const float* w, int stride, int n, int u) {
    float sum = 0.f;
    for (int i = 0; i < n; ++i) sum = fmaf(d[i], w[i * stride + u], sum);
    return sum;
  }

  // The gradient at the last hidden layer, d2 W2 where z > 0, else 0; other blocks may read it.
  FEDFAST_DEVICE void back(const Tensors& w2) const {
    each(count, top.units, [&](int b, int u) {
      const int i = b * top.stride + u;
      const float* d2 = at(s.d2) + b * s.logit_stride;
      const float d = chain(d2, at(w2.w), top.stride, p.model.classes, u);
      at(top.d)[i] = at(top.z)[i] > 0.f ? d : 0.f;
      if (p.model.middle) bank()[i] = at(top.d)[i];
    });
    if (!p.model.middle) grid::sync();
  }

  // The gradient at all units of the second hidden layer, dm, and at those of the first, dm Wm.
  FEDFAST_DEVICE void back_second(const Tensors& wm) {
    const int each_block = p.plan.middles;
    grid::sync_cluster();
    each(count, p.model.middle, [&](int b, int k) {
      const float* d = grid::peer(bank(), k / each_block) + b * top.stride;
      at(s.dm)[b * s.middle_stride + k] = d[k % each_block];
    });
    ++exchanged;
    grid::sync();
    each(count, low.units, [&](int b, int u) {
      const int i = b * low.stride + u;
      const float* dm = at(s.dm) + b * s.middle_stride;
      const float d = chain(dm, at(wm.w), low.stride, p.model.middle, u);
      at(low.d)[i] = at(low.z)[i] > 0.f ? d : 0.f;
    });
    grid::sync();
  }

  // Over the batch: sums of a bias's gradient, and of a weight's, d^T h.
  FEDFAST_DEVICE float over_batch(int d, int stride, int i) const {
    float sum = 0.f;
    for (int b = 0; b < count; ++b) sum += at(d)[b * stride + i];
    return sum;
  }
  FEDFAST_DEVICE float gradient(int d, int d_stride, int i, const Layer& layer, int u) const {
    float sum = 0.f;
    for (int b = 0; b < count; ++b) {
      sum = fmaf(at(d)[b * d_stride + i], at(layer.h)[b * layer.stride + u], sum);
    }
    return sum;
  }
  FEDFAST_DEVICE float gradient2(int c, int u) const {
    return gradient(s.d2, s.logit_stride, c, top, u);
  }
  FEDFAST_DEVICE float gradient_m(int k, int u) const {
    return gradient(s.dm, s.middle_stride, k, low, u);
  }
};

}  // namespace fedfast::cuda
