// A block's part of a client's local steps.
#pragma once
#include "cuda/update.h"

namespace fedfast::cuda {

template <int S>
struct Steps : Update {
  FEDFAST_DEVICE explicit Steps(const Launch& launch) : Update(launch) {}

  FEDFAST_DEVICE void run() {
    load_model();
    begin();
    double times = 0, once = 0;
    for (int step = 0; lines[0] >= 0; ++step) {
      grid::sync();
      const double loss = one(step);
      times += loss * count, once += loss;
    }
    grid::sync();
    store_model();
    if (rank == 0 && grid::thread() == 0) {
      p.total[client] = times, p.total[p.total_stride + client] = once;
    }
    grid::sync_cluster();  // nobody leaves while another reads its memory
  }

  // A step; the loss at the model before it.
  FEDFAST_DEVICE float one(int step) {
    gather(step);
    grid::sync();
    fetch(step + 1);
    hidden();
    float loss = 0.f;
    for (int pass = 0; pass < (p.rho ? 2 : 1); ++pass) {
      if (pass) ascend();
      const Tensors &wm = pass ? s.ahead_m : s.wm, &w2 = pass ? s.ahead2 : s.w2;
      if (p.model.middle) second(wm);
      const float there = output(w2, p.model.norms && !pass);
      loss = pass ? loss : there;
      back(w2);
      if (p.model.middle) back_second(wm);
    }
    const float scale = p.clip > 0 ? clipped() : 1.f;
    const Move move{alpha, beta, scale, p.momentum, p.nesterov};
    if (p.model.momentum)
      update<true>(move);
    else
      update<false>(move);
    return loss;
  }

  // z = x W1^T + b1, h = relu(z).
  FEDFAST_DEVICE void hidden() const {
    const Columns all{0, s.stride1 / 4};
    const Rows rows{at(s.w1.w), low.units, at(s.x), count, s.stride1, all};
    multiply<S, true>(rows, smaller(p.plan.height, low.units),
                      [&](int u, int b, float sum) { set_value(low, b, u, sum + at(s.w1.b)[u]); });
  }

  // A layer's product over the block's inputs of it, into the bank: h w^T, [B, n].
  FEDFAST_DEVICE void share(const Layer& layer, int w, int n, int stride) const {
    const Columns all{0, layer.stride / 4};
    multiply_few<S>({at(w), n, at(layer.h), count, layer.stride, all},
                    [&](int i, int b, float sum) { bank()[b * stride + i] = sum; });
  }

  // z = h Wm^T + bm, h = relu(z) of the second hidden layer.
  FEDFAST_DEVICE void second(const Tensors& wm) {
    grid::sync();
    share(low, wm.w, p.model.middle, s.middle_stride);
    grid::sync_cluster();
    each(count, top.units, [&](int b, int u) {
      set_value(top, b, u, over_blocks(b * s.middle_stride + top.first + u) + at(wm.b)[u]);
    });
    ++exchanged;
  }

  // Logits, their softmax, d2 = (softmax - y) / count; the mean loss. gram: x x^T + 1 too.
  FEDFAST_DEVICE float output(const Tensors& w2, bool gram) {
    const int behind = p.model.width * s.logit_stride, wide = (p.model.width + 3) / 4 * 4;
    if (gram) part_of_gram(behind, wide);
    grid::sync();
    share(top, w2.w, p.model.classes, s.logit_stride);
    grid::sync_cluster();
    each(count, p.model.classes, [&](int b, int c) {
      const int i = b * s.logit_stride + c;
      at(s.logits)[i] = over_blocks(i) + at(w2.b)[c];
    });
    if (gram) {
      each(count, count, [&](int i, int j) {
        at(s.gram)[i * wide + j] = over_blocks(behind + i * wide + j) + 1.f;
      });
    }
    ++exchanged;
    grid::sync();
    return softmax();
  }

  // x x^T over the block's own columns.
  FEDFAST_DEVICE void part_of_gram(int behind, int wide) const {
    const int fours = s.stride1 / 4, each_block = (fours + p.plan.blocks - 1) / p.plan.blocks;
    const Columns own{smaller(rank * each_block, fours), smaller((rank + 1) * each_block, fours)};
    multiply_few<S>({at(s.x), count, at(s.x), count, s.stride1, own},
                    [&](int i, int j, float sum) { bank()[behind + i * wide + j] = sum; });
  }
};

}  // namespace fedfast::cuda
