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

  FEDFAST_DEVICE static float relu(float z) { return z < 0.f ? 0.f : z; }

  FEDFAST_DEVICE void set_value(const Layer& layer, int b, int u, float z) const {
    at(layer.z)[b * layer.stride + u] = z, at(layer.h)[b * layer.stride + u] = relu(z);
  }

  // z = x W1^T + b1, h = relu(z).
  FEDFAST_DEVICE void hidden() const {
    const Columns all{0, s.stride1 / 4};
    const Rows rows{at(s.w1.w), low.units, at(s.x), count, s.stride1, all};
    multiply<S, true>(rows, smaller(p.plan.height, low.units),
                      [&](int u, int b, float sum) { set_value(low, b, u, sum + at(s.w1.b)[u]); });
  }

  FEDFAST_DEVICE float* bank() const { return at(s.exchange) + exchanged % 2 * s.part; }

  // The sum over all blocks, in their order, of what lies i floats into their banks.
  FEDFAST_DEVICE float over_blocks(int i) const {
    float sum = 0.f;
    for (int r = 0; r < p.plan.blocks; ++r) sum += grid::peer(bank(), r)[i];
    return sum;
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

  template <bool kHeavy>
  FEDFAST_DEVICE void set(const Move& move, int w, int v, float g, int64_t there) const {
    const float a = p.addend ? p.addend[client * p.addend_stride + there] : 0.f;
    if (kHeavy)
      memory[w] = move.heavy(memory[w], g, a, memory[v]);
    else
      memory[w] = move.plain(memory[w], g, a);
  }

  // Every weight by its gradient, which nothing else holds.
  template <bool kHeavy>
  FEDFAST_DEVICE void update(const Move& move) const {
    each(p.model.classes, top.units, [&](int c, int u) {
      const int i = c * top.stride + u;
      set<kHeavy>(move, s.w2.w + i, s.v2.w + i, gradient2(c, u), place2(c, u));
    });
    update_biases<kHeavy>(move);
    if (p.model.middle) {
      update_matrix<kHeavy>(move, {s.wm.w, s.vm.w, low.stride, p.model.middle, low.units, s.dm,
                                   s.middle_stride, low.h, place_m(0, 0), p.model.hidden, false});
    }
    update_matrix<kHeavy>(move, {s.w1.w, s.v1.w, s.stride1, low.units, p.model.inputs, low.d,
                                 low.stride, s.x, place1(0), p.model.inputs, p.addend_wide});
  }

  template <bool kHeavy>
  FEDFAST_DEVICE void update_biases(const Move& move) const {
    const int middles = p.model.middle ? top.units : 0;
    const auto change = [&](const Tensors& w, const Tensors& v, int d, int stride, int i,
                            int64_t there) {
      set<kHeavy>(move, w.b + i, v.b + i, over_batch(d, stride, i), there);
    };
    for (int i = grid::thread(); i < low.units + middles + p.model.classes; i += kThreads) {
      const int u = i - low.units, c = u - middles;
      if (u < 0)
        change(s.w1, s.v1, low.d, low.stride, i, p.b1 + low.first + i);
      else if (c < 0)
        change(s.wm, s.vm, top.d, top.stride, u, p.bm + top.first + u);
      else
        change(s.w2, s.v2, s.d2, s.logit_stride, c, p.b2 + c);
    }
  }

  // A weight [n, columns] and its velocity, its gradient's factors d [B, n] and x [B, columns],
  // whose rows lie as the weight's do, and where row 0 lies in a flat row.
  struct Matrix {
    int w, v, stride, n, columns, d, d_stride, x;
    int64_t there, there_stride;
    bool wide;  // whether the addend is read in fours
  };

  static constexpr int kTall = 8;  // rows of a tile of a matrix, times four columns

  template <bool kHeavy>
  FEDFAST_DEVICE void update_matrix(const Move& move, const Matrix& m) const {
    const int fours = m.stride / 4, tasks = (m.n + kTall - 1) / kTall * fours;
    for (int t = grid::thread(); t < tasks; t += kThreads) {
      update_tile<kHeavy>(move, m, t / fours * kTall, t % fours);
    }
  }

  // w <- w moved by d^T x.
  template <bool kHeavy>
  FEDFAST_DEVICE void update_tile(const Move& move, const Matrix& m, int i0, int q) const {
    float4 g[kTall] = {};
    const float* d = at(m.d) + i0;
    const float* x = at(m.x) + 4 * q;
    for (int b = 0; b < count; ++b, d += m.d_stride, x += m.stride) {
      const float4 four = load4(x), first = load4(d), last = load4(d + 4);
      add(g[0], first.x, four), add(g[1], first.y, four), add(g[2], first.z, four);
      add(g[3], first.w, four), add(g[4], last.x, four), add(g[5], last.y, four);
      add(g[6], last.z, four), add(g[7], last.w, four);
    }
#pragma unroll
    for (int i = 0; i < kTall; ++i) {
      if (i0 + i < m.n) set4<kHeavy>(move, m, i0 + i, q, g[i]);
    }
  }

  FEDFAST_DEVICE static void add(float4& g, float d, float4 x) {
    g.x = fmaf(d, x.x, g.x), g.y = fmaf(d, x.y, g.y);
    g.z = fmaf(d, x.z, g.z), g.w = fmaf(d, x.w, g.w);
  }

  template <bool kHeavy>
  FEDFAST_DEVICE void set4(const Move& move, const Matrix& m, int i, int q, float4 g) const {
    float* to = at(m.w) + i * m.stride + 4 * q;
    float4 w = load4(to), a = added4(m, i, q);
    if (kHeavy) {
      float* velocity = at(m.v) + i * m.stride + 4 * q;
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

  FEDFAST_DEVICE float4 added4(const Matrix& m, int i, int q) const {
    if (!p.addend) return {};
    const float* row = p.addend + client * p.addend_stride + m.there;
    const float* from = row + i * m.there_stride + 4 * q;
    if (m.wide) return load4(from);
    const int left = m.columns - 4 * q;
    return {from[0], left > 1 ? from[1] : 0.f, left > 2 ? from[2] : 0.f, left > 3 ? from[3] : 0.f};
  }
};

}  // namespace fedfast::cuda
