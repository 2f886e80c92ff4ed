#include <initializer_list>

#include "cuda/resident.h"

namespace fedfast::cuda {
namespace {

int up4(int n) { return (n + 3) / 4 * 4; }
int up(int a, int b) { return (a + b - 1) / b; }

Shared shared_for(const Model& m, int units) {
  Shared s{};
  int end = 0;
  const auto take = [&end](int floats) {
    const int begin = end;
    end += up4(floats);
    return begin;
  };
  const int d = s.stride1 = up4(m.inputs), u = s.stride2 = up4(units);
  const int c = s.logit_stride = up4(m.classes), b = m.width, gram = m.norms ? b * up4(b) : 0;
  s.w1 = take(units * d), s.b1 = take(u), s.w2 = take(m.classes * u), s.b2 = take(c);
  const int v = m.momentum ? 1 : 0, n = m.norms ? 1 : 0;
  s.v1 = take(v * units * d), s.vb1 = take(v * u), s.v2 = take(v * m.classes * u),
  s.vb2 = take(v * c);
  s.g2 = take(n * m.classes * u), s.ahead2 = take(n * m.classes * u), s.ahead_b2 = take(n * c);
  s.x = take(b * d);
  s.z = take(b * u), s.h = take(b * u), s.d = take(b * u), s.t = take(n * b * u);
  s.logits = take(b * c), s.d2 = take(b * c), s.gram = take(gram);
  s.part = b * c + gram, s.exchange = take(2 * s.part);
  s.sums = take(2 * (kWarps + 2)), s.losses = take(2 * b);
  s.rows = take(4 * b), s.labels = take(b);
  s.end = end;
  return s;
}

// What a tile of the products takes for each of its columns: shared memory gives a warp's 16 bytes
// a lane in four cycles, which four warps' multiply-adds take too.
int cost(int width, int samples) {
  const int units = 7, reads = 4 * (units + samples), products = units * samples;
  return up(width, samples) * (reads > products ? reads : products);
}

int tile_samples(int width) {
  int best = 4;
  for (const int samples : {8, 10}) {
    if (cost(width, samples) <= cost(width, best)) best = samples;
  }
  return best;
}

}  // namespace

Plan plan_for(const Model& model) {
  for (int blocks = 1; blocks <= kMostBlocks; blocks *= 2) {
    const int units = up(model.hidden, blocks);
    const Plan plan{blocks, units, tile_samples(model.width), shared_for(model, units)};
    // Every block has units: sizes are int before that is known to fit.
    if (int64_t{units} * model.inputs > kSharedBytes) continue;
    const bool all = units * (blocks - 1) < model.hidden;
    if (all && plan.shared.end * int64_t{4} <= kSharedBytes) return plan;
  }
  return {};
}

}  // namespace fedfast::cuda
