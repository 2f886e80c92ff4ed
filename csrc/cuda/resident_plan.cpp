#include <initializer_list>

#include "cuda/resident.h"

namespace fedfast::cuda {
namespace {

int up4(int n) { return (n + 3) / 4 * 4; }
int up(int a, int b) { return (a + b - 1) / b; }
int smaller(int a, int b) { return a < b ? a : b; }

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

Plan plan_for(const Model& model) {
  for (int blocks = 1; blocks <= kMostBlocks; blocks *= 2) {
    const int units = up(model.hidden, blocks);
    // Sizes are int: what is far too large must not be computed.
    if (int64_t{units} * model.inputs > kSharedBytes) continue;
    if (int64_t{units} * model.classes > kSharedBytes) continue;
    if (int64_t{model.width} * (model.inputs + model.width) > kSharedBytes) continue;
    Plan plan{blocks, units, 0, 0, shared_for(model, units)};
    // Every block has units.
    const bool all = units * (blocks - 1) < model.hidden;
    if (!all || plan.shared.end * int64_t{sizeof(float)} > kSharedBytes) continue;
    choose_tile(model, plan);
    return plan;
  }
  return {};
}

}  // namespace fedfast::cuda
