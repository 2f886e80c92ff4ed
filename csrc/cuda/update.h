// How weights move: each by its gradient, which is made where the weight is.
#pragma once
#include "cuda/norms.h"

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

struct Update : Norms {
  FEDFAST_DEVICE explicit Update(const Launch& launch) : Norms(launch) {}

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
