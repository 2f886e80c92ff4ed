// A block's part of one client: its shared memory by name, and the weights between it and global
// memory.
#pragma once
#include "cuda/product.h"

namespace fedfast::cuda {

// f(row, column) for a matrix, rows by turns to the warps, columns to their lanes.
template <typename F>
FEDFAST_DEVICE void each(int rows, int columns, F f) {
  for (int i = grid::thread() / kLanes; i < rows; i += kWarps) {
    for (int j = grid::thread() % kLanes; j < columns; j += kLanes) f(i, j);
  }
}

// A block's units of a hidden layer, [first, first + units), and their values.
struct Layer : Values {
  int first, units;

  FEDFAST_DEVICE Layer(const Values& values, int rank, int each_block, int size)
      : Values(values), first(rank * each_block), units(smaller(each_block, size - first)) {}
};

struct Block {
  const Launch& p;
  const Shared& s;
  float* const memory;
  const int client, rank;
  const Layer low, top;  // the first hidden layer and the last, perhaps the same
  const float alpha, beta;

  FEDFAST_DEVICE explicit Block(const Launch& launch)
      : p(launch),
        s(launch.plan.shared),
        memory(grid::shared()),
        client(grid::block() / launch.plan.blocks),
        rank(grid::block() % launch.plan.blocks),
        low(s.low, rank, launch.plan.units, launch.model.hidden),
        top(s.top, rank, launch.model.middle ? launch.plan.middles : launch.plan.units,
            launch.model.middle ? launch.model.middle : launch.model.hidden),
        alpha(launch.alpha[client]),
        beta(launch.beta[client]) {}

  FEDFAST_DEVICE float* at(int part) const { return memory + part; }
  FEDFAST_DEVICE double* sums() const { return reinterpret_cast<double*>(at(s.sums)); }
  FEDFAST_DEVICE double* losses() const { return reinterpret_cast<double*>(at(s.losses)); }
  FEDFAST_DEVICE int* labels() const { return reinterpret_cast<int*>(at(s.labels)); }
  FEDFAST_DEVICE int64_t* rows(int step) const {
    return reinterpret_cast<int64_t*>(at(s.rows)) + step % 2 * p.model.width;
  }

  // Where weights lie in a flat row: W1 from a unit's first column on, Wm and W2 at (row, unit).
  FEDFAST_DEVICE int64_t place1(int u) const {
    return p.w1 + int64_t{low.first + u} * p.model.inputs;
  }
  FEDFAST_DEVICE int64_t place_m(int m, int u) const {
    return p.wm + int64_t{m} * p.model.hidden + low.first + u;
  }
  FEDFAST_DEVICE int64_t place2(int c, int u) const {
    const int size = p.model.middle ? p.model.middle : p.model.hidden;
    return p.w2 + int64_t{c} * size + top.first + u;
  }

  // All weights: move(weight in shared memory, its place in a flat row).
  template <typename F>
  FEDFAST_DEVICE void each_weight(F move) const {
    const Model& m = p.model;
    each(low.units, m.inputs,
         [&](int u, int d) { move(s.w1.w + u * s.stride1 + d, place1(u) + d); });
    each(m.middle, low.units,
         [&](int k, int u) { move(s.wm.w + k * low.stride + u, place_m(k, u)); });
    each(m.classes, top.units,
         [&](int c, int u) { move(s.w2.w + c * top.stride + u, place2(c, u)); });
    each(1, low.units, [&](int, int u) { move(s.w1.b + u, p.b1 + low.first + u); });
    if (m.middle) each(1, top.units, [&](int, int u) { move(s.wm.b + u, p.bm + top.first + u); });
    each(1, m.classes, [&](int, int c) { move(s.w2.b + c, p.b2 + c); });
  }

  FEDFAST_DEVICE void load_model() const {
    for (int i = grid::thread(); i < s.end; i += kThreads) memory[i] = 0.f;
    grid::sync();
    const float* row = p.base + client * p.base_stride;
    each_weight([&](int here, int64_t there) { memory[here] = row[there]; });
  }

  FEDFAST_DEVICE void store_model() const {
    float* row = p.out + client * p.out_stride;
    each_weight([&](int here, int64_t there) { row[there] = memory[here]; });
  }
};

}  // namespace fedfast::cuda
