#include <initializer_list>

#include "cuda/resident.h"

namespace fedfast::cuda {
namespace {

int up4(int n) { return (n + 3) / 4 * 4; }
int up(int a, int b) { return (a + b - 1) / b; }
int smaller(int a, int b) { return a < b ? a : b; }

// Shared memory, dealt out part by part.
struct Memory {
  int end = 0;

  int take(int floats) {
    const int begin = end;
    end += up4(floats);
    return begin;
  }

  Tensors tensors(int weights, int biases) {
    const int w = take(weights);
    return {w, take(biases)};
  }

  Values values(int width, int units) {
    const int stride = up4(units), z = take(width * stride), h = take(width * stride);
    return {z, h, take(width * stride), stride};
  }
};

Shared shared_for(const Model& m, int units, int middles) {
  Shared s{};
  Memory memory;
  const auto take = [&memory](int floats) { return memory.take(floats); };
  const int d = s.stride1 = up4(m.inputs), c = s.logit_stride = up4(m.classes), b = m.width;
  s.middle_stride = up4(m.middle);
  const int low = units * d, middle = m.middle * up4(units);
  const int top = m.classes * up4(m.middle ? middles : units);
  s.w1 = memory.tensors(low, units), s.wm = memory.tensors(middle, middles);
  s.w2 = memory.tensors(top, c);
  if (m.momentum) {
    s.v1 = memory.tensors(low, units), s.vm = memory.tensors(middle, middles);
    s.v2 = memory.tensors(top, c);
  }
  s.x = take(b * d), s.low = memory.values(b, units);
  s.top = m.middle ? memory.values(b, middles) : s.low;
  s.dm = take(b * s.middle_stride), s.logits = take(b * c), s.d2 = take(b * c);
  s.part = b * c;
  if (m.norms) {
    s.gm = take(middle), s.g2 = take(top);
    s.ahead_m = memory.tensors(middle, middles), s.ahead2 = memory.tensors(top, c);
    s.t = take(b * s.low.stride), s.gram = take(b * up4(b)), s.part += b * up4(b);
  }
  if (m.middle && s.part < b * s.middle_stride) s.part = b * s.middle_stride;
  if (m.middle && s.part < b * s.top.stride) s.part = b * s.top.stride;
  s.exchange = take(2 * s.part), s.sums = take(2 * (kWarps + 2)), s.losses = take(2 * b);
  s.rows = take(4 * b), s.labels = take(b), s.end = memory.end;
  return s;
}

// What the products of W1 and the batch take, for each column: shared memory gives a warp's 16
// bytes a lane in four cycles, which are four warps' multiply-adds; warps take a tile each at a
// time.
int cost(int units, int width, int height, int samples) {
  const int tiles = up(units, height) * up(width, samples);
  const int reads = 4 * (height + samples), products = height * samples;
  return up(tiles, kWarps) * (reads > products ? reads : products);
}

// The tile that takes least. Sums have the same order in all.
void choose_tile(const Model& m, Plan& plan) {
  int least = 0;
  for (const int samples : {4, 8, 10}) {
    for (int height = 1; height <= smaller(8, plan.units); ++height) {
      const int found = cost(plan.units, m.width, height, samples);
      if (least && found >= least) continue;
      least = found, plan.samples = samples, plan.height = height;
    }
  }
}

}  // namespace

Plan plan_for(const Model& m) {
  // Sizes are int: what is far too large must not be computed.
  for (const int size : {m.inputs, m.hidden, m.middle, m.classes, m.width}) {
    if (size > kSharedBytes / 4) return {};
  }
  for (int blocks = 1; blocks <= kMostBlocks; blocks *= 2) {
    const int units = up(m.hidden, blocks), middles = up(m.middle, blocks);
    const int64_t weights =
        int64_t{units} * (m.inputs + m.middle) + int64_t{m.classes} * up(m.top(), blocks);
    const int64_t values = int64_t{m.width} * (m.inputs + m.width + m.middle + m.classes);
    if (weights + values > kSharedBytes / 4) continue;
    Plan plan{blocks, units, middles, 0, 0, shared_for(m, units, middles)};
    // Every block has units of both layers.
    const bool all =
        units * (blocks - 1) < m.hidden && middles * (blocks - 1) < (m.middle ? m.middle : 1);
    if (!all || plan.shared.end * int64_t{sizeof(float)} > kSharedBytes) continue;
    choose_tile(m, plan);
    return plan;
  }
  return {};
}

}  // namespace fedfast::cuda
