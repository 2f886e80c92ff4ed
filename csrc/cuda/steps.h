// A block's part of a client's local steps.
#pragma once
#include "cuda/block.h"

namespace fedfast::cuda {

// w <- beta w + alpha (scale g + a); with momentum v <- mu v + that move, and w moves by v.
struct Move {
  float alpha, beta, scale, momentum;
  bool nesterov;

  FEDFAST_DEVICE float plain(float w, float g, float a) const {
    return fmaf(alpha, fmaf(scale, g, a), beta * w);
  }

  FEDFAST_DEVICE float heavy(float w, float g, float a, float& v) const {
    const float move = fmaf(alpha, fmaf(scale, g, a), (beta - 1.f) * w);
    v = fmaf(momentum, v, move);
    return w + (nesterov ? fmaf(momentum, v, move) : v);
  }
};

template <int S>
struct Steps : Block {
  int exchanged = 0;  // how often the cluster has exchanged sums

  FEDFAST_DEVICE explicit Steps(const Launch& launch) : Block(launch) {}

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
      const float* w2 = at(pass ? s.ahead2 : s.w2);
      const float there = output(w2, at(pass ? s.ahead_b2 : s.b2), p.model.norms && !pass);
      loss = pass ? loss : there;
      back(w2);
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
    const Rows rows{at(s.w1), units, at(s.x), count, s.stride1, all};
    multiply<S, true>(rows, smaller(p.plan.height, units), [&](int u, int b, float sum) {
      const float z = sum + at(s.b1)[u];
      at(s.z)[b * s.stride2 + u] = z, at(s.h)[b * s.stride2 + u] = relu(z);
    });
  }

  FEDFAST_DEVICE static float relu(float z) { return z < 0.f ? 0.f : z; }

  FEDFAST_DEVICE float* bank() const { return at(s.exchange) + exchanged % 2 * s.part; }

  // The sum over all blocks, in their order, of what lies i floats into their banks.
  FEDFAST_DEVICE float over_blocks(int i) const {
    float sum = 0.f;
    for (int r = 0; r < p.plan.blocks; ++r) sum += grid::peer(bank(), r)[i];
    return sum;
  }

  // Logits of all blocks, their softmax, d2 = (softmax - y) / count; the mean loss. gram: x x^T
  // too.
  FEDFAST_DEVICE float output(const float* w2, const float* b2, bool gram) {
    const int classes = p.model.classes, behind = p.model.width * s.logit_stride;
    const int wide = (p.model.width + 3) / 4 * 4;
    if (gram) part_of_gram(behind, wide);
    grid::sync();
    const Columns all{0, s.stride2 / 4};
    multiply_few<S>({w2, classes, at(s.h), count, s.stride2, all},
                    [&](int c, int b, float sum) { bank()[b * s.logit_stride + c] = sum; });
    grid::sync_cluster();
    each(count, classes, [&](int b, int c) {
      const int i = b * s.logit_stride + c;
      at(s.logits)[i] = over_blocks(i) + b2[c];
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

  // d = d2 W2 where z > 0, else 0.
  FEDFAST_DEVICE void back(const float* w2) const {
    each(count, units, [&](int b, int u) {
      const float* d2 = at(s.d2) + b * s.logit_stride;
      float sum = 0.f;
      for (int c = 0; c < p.model.classes; ++c) sum = fmaf(d2[c], w2[c * s.stride2 + u], sum);
      at(s.d)[b * s.stride2 + u] = at(s.z)[b * s.stride2 + u] > 0.f ? sum : 0.f;
    });
    grid::sync();
  }

  FEDFAST_DEVICE float over_batch(const float* rows, int stride, int i) const {
    float sum = 0.f;
    for (int b = 0; b < count; ++b) sum += rows[b * stride + i];
    return sum;
  }

  // The gradient of W2 at (c, u): d2^T h.
  FEDFAST_DEVICE float gradient2(int c, int u) const {
    float sum = 0.f;
    for (int b = 0; b < count; ++b) {
      sum = fmaf(at(s.d2)[b * s.logit_stride + c], at(s.h)[b * s.stride2 + u], sum);
    }
    return sum;
  }

  // |g|^2 over the whole model. t = (x x^T + 1) d, whose products with d are those of the gradient
  // of W1 and b1 with itself. Leaves t and the gradient of W2.
  FEDFAST_DEVICE double square() {
    const int wide = (p.model.width + 3) / 4 * 4;
    double own = 0;
    each(count, units, [&](int b, int u) {
      float sum = 0.f;
      for (int j = 0; j < count; ++j) {
        sum = fmaf(at(s.gram)[b * wide + j], at(s.d)[j * s.stride2 + u], sum);
      }
      at(s.t)[b * s.stride2 + u] = sum;
      own += double(sum) * at(s.d)[b * s.stride2 + u];
    });
    each(p.model.classes, units, [&](int c, int u) {
      const float g = at(s.g2)[c * s.stride2 + u] = gradient2(c, u);
      own += double(g) * g;
    });
    if (rank == 0) {
      each(1, p.model.classes, [&](int, int c) {
        const double g = over_batch(at(s.d2), s.logit_stride, c);
        own += g * g;
      });
    }
    return over_cluster(own);
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

  // SAM: z, h, W2 and b2 at w + s g, s = rho / (|g| + eps). No W1 is written: x (s d^T x)^T = s t.
  FEDFAST_DEVICE void ascend() {
    const float reach = float(p.rho[client] / (sqrt(square()) + p.eps));
    each(count, units, [&](int b, int u) {
      const int i = b * s.stride2 + u;
      at(s.z)[i] = fmaf(reach, at(s.t)[i], at(s.z)[i]), at(s.h)[i] = relu(at(s.z)[i]);
    });
    each(p.model.classes, units, [&](int c, int u) {
      const int i = c * s.stride2 + u;
      at(s.ahead2)[i] = fmaf(reach, at(s.g2)[i], at(s.w2)[i]);
    });
    each(1, p.model.classes, [&](int, int c) {
      const float g = over_batch(at(s.d2), s.logit_stride, c);
      at(s.ahead_b2)[c] = fmaf(reach, g, at(s.b2)[c]);
    });
  }

  // What the gradient is multiplied by so that its norm is at most `clip`.
  FEDFAST_DEVICE float clipped() {
    const double most = p.clip / (sqrt(square()) + p.clip_eps);
    return most < 1 ? float(most) : 1.f;
  }

  // The addend at a place of the flat row.
  FEDFAST_DEVICE float added(int64_t there) const {
    return p.addend ? p.addend[client * p.addend_stride + there] : 0.f;
  }

  template <bool kHeavy>
  FEDFAST_DEVICE void set(const Move& move, int w, int v, float g, int64_t there) const {
    const float a = added(there);
    if (kHeavy)
      memory[w] = move.heavy(memory[w], g, a, memory[v]);
    else
      memory[w] = move.plain(memory[w], g, a);
  }

  // Every weight by its gradient, which nothing else holds.
  template <bool kHeavy>
  FEDFAST_DEVICE void update(const Move& move) const {
    const Model& m = p.model;
    each(m.classes, units, [&](int c, int u) {
      const int i = c * s.stride2 + u;
      const int64_t there = p.w2 + int64_t{c} * m.hidden + first + u;
      set<kHeavy>(move, s.w2 + i, s.v2 + i, gradient2(c, u), there);
    });
    for (int i = grid::thread(); i < units + m.classes; i += kThreads) {
      const int c = i - units;
      if (c < 0)
        set<kHeavy>(move, s.b1 + i, s.vb1 + i, over_batch(at(s.d), s.stride2, i), p.b1 + first + i);
      else
        set<kHeavy>(move, s.b2 + c, s.vb2 + c, over_batch(at(s.d2), s.logit_stride, c), p.b2 + c);
    }
    const int fours = s.stride1 / 4, tasks = (units + kTall - 1) / kTall * fours;
    for (int t = grid::thread(); t < tasks; t += kThreads) {
      update_tile<kHeavy>(move, t / fours * kTall, t % fours);
    }
  }

  static constexpr int kTall = 8;  // units of a tile of W1, times four columns

  // W1 <- W1 moved by d^T x.
  template <bool kHeavy>
  FEDFAST_DEVICE void update_tile(const Move& move, int u0, int q) const {
    float4 g[kTall] = {};
    const float* d = at(s.d) + u0;
    const float* x = at(s.x) + 4 * q;
    for (int b = 0; b < count; ++b, d += s.stride2, x += s.stride1) {
      const float4 four = load4(x), low = load4(d), high = load4(d + 4);
      add(g[0], low.x, four), add(g[1], low.y, four), add(g[2], low.z, four);
      add(g[3], low.w, four), add(g[4], high.x, four), add(g[5], high.y, four);
      add(g[6], high.z, four), add(g[7], high.w, four);
    }
#pragma unroll
    for (int i = 0; i < kTall; ++i) {
      if (u0 + i < units) set4<kHeavy>(move, u0 + i, q, g[i]);
    }
  }

  FEDFAST_DEVICE static void add(float4& g, float d, float4 x) {
    g.x = fmaf(d, x.x, g.x), g.y = fmaf(d, x.y, g.y);
    g.z = fmaf(d, x.z, g.z), g.w = fmaf(d, x.w, g.w);
  }

  template <bool kHeavy>
  FEDFAST_DEVICE void set4(const Move& move, int u, int q, float4 g) const {
    float* to = at(s.w1) + u * s.stride1 + 4 * q;
    float4 w = load4(to), a = added4(u, q);
    if (kHeavy) {
      float* velocity = at(s.v1) + u * s.stride1 + 4 * q;
      float4 v = load4(velocity);
      w.x = move.heavy(w.x, g.x, a.x, v.x), w.y = move.heavy(w.y, g.y, a.y, v.y);
      w.z = move.heavy(w.z, g.z, a.z, v.z), w.w = move.heavy(w.w, g.w, a.w, v.w);
      store4(velocity, v);
    } else {
      w.x = move.plain(w.x, g.x, a.x), w.y = move.plain(w.y, g.y, a.y);
      w.z = move.plain(w.z, g.z, a.z), w.w = move.plain(w.w, g.w, a.w);
    }
    store4(to, w);
  }

  FEDFAST_DEVICE float4 added4(int u, int q) const {
    if (!p.addend) return {};
    const int inputs = p.model.inputs, left = inputs - 4 * q;
    const float* row = p.addend + client * p.addend_stride;
    const float* from = row + p.w1 + int64_t{first + u} * inputs + 4 * q;
    if (p.addend_wide) return load4(from);
    return {from[0], left > 1 ? from[1] : 0.f, left > 2 ? from[2] : 0.f, left > 3 ? from[3] : 0.f};
  }
};

}  // namespace fedfast::cuda
