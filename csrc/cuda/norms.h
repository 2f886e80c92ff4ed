// The norm of a gradient that is not written, and what SAM and a clip do with it.
#pragma once
#include "cuda/gradient.h"

namespace fedfast::cuda {

struct Norms : Gradient {
  FEDFAST_DEVICE explicit Norms(const Launch& launch) : Gradient(launch) {}

  // |g|^2 over the whole model. t = (x x^T + 1) d, whose products with d are those of the gradient
  // of W1 and b1 with itself. Leaves t and the gradients of the other weights.
  FEDFAST_DEVICE double square() {
    double own = squares_of_first();
    const auto add = [&own](double g) { own += g * g; };
    each(p.model.classes, top.units,
         [&](int c, int u) { add(at(s.g2)[c * top.stride + u] = gradient2(c, u)); });
    each(p.model.middle, low.units,
         [&](int k, int u) { add(at(s.gm)[k * low.stride + u] = gradient_m(k, u)); });
    if (p.model.middle) {
      each(1, top.units, [&](int, int u) { add(over_batch(top.d, top.stride, u)); });
    }
    if (rank == 0) {
      each(1, p.model.classes, [&](int, int c) { add(over_batch(s.d2, s.logit_stride, c)); });
    }
    return over_cluster(own);
  }

  FEDFAST_DEVICE double squares_of_first() const {
    const int wide = (p.model.width + 3) / 4 * 4;
    double own = 0;
    each(count, low.units, [&](int b, int u) {
      const float t = chain(at(s.gram) + b * wide, at(low.d), low.stride, count, u);
      at(s.t)[b * low.stride + u] = t;
      own += double(t) * at(low.d)[b * low.stride + u];
    });
    return own;
  }

  // A number of every thread added up: lanes, warps, blocks.
  FEDFAST_DEVICE double over_cluster(double own) {
    own = grid::total(own);
    double* slot = sums() + kWarps + exchanged % 2;
    if (grid::thread() % kLanes == 0) sums()[grid::thread() / kLanes] = own;
    grid::sync();
    if (grid::thread() == 0) {
      *slot = 0;
      for (int w = 0; w < kWarps; ++w) *slot += sums()[w];
    }
    grid::sync_cluster();
    double sum = 0;
    for (int r = 0; r < p.plan.blocks; ++r) sum += *grid::peer(slot, r);
    ++exchanged;
    return sum;
  }

  // SAM: z and h of the first layer and all other weights at w + s g, s = rho / (|g| + eps). No W1
  // is written: x (s d^T x)^T = s t.
  FEDFAST_DEVICE void ascend() {
    const float reach = float(p.rho[client] / (sqrt(square()) + p.eps));
    each(count, low.units, [&](int b, int u) {
      const int i = b * low.stride + u;
      set_value(low, b, u, fmaf(reach, at(s.t)[i], at(low.z)[i]));
    });
    const auto ahead = [&](int to, int from, int i, float g) {
      at(to)[i] = fmaf(reach, g, at(from)[i]);
    };
    each(p.model.classes, top.units, [&](int c, int u) {
      const int i = c * top.stride + u;
      ahead(s.ahead2.w, s.w2.w, i, at(s.g2)[i]);
    });
    each(p.model.middle, low.units, [&](int k, int u) {
      const int i = k * low.stride + u;
      ahead(s.ahead_m.w, s.wm.w, i, at(s.gm)[i]);
    });
    if (p.model.middle) {
      each(1, top.units,
           [&](int, int u) { ahead(s.ahead_m.b, s.wm.b, u, over_batch(top.d, top.stride, u)); });
    }
    each(1, p.model.classes,
         [&](int, int c) { ahead(s.ahead2.b, s.w2.b, c, over_batch(s.d2, s.logit_stride, c)); });
  }

  // What the gradient is multiplied by so that its norm is at most `clip`.
  FEDFAST_DEVICE float clipped() {
    const double most = p.clip / (sqrt(square()) + p.clip_eps);
    return most < 1 ? float(most) : 1.f;
  }
};

}  // namespace fedfast::cuda
