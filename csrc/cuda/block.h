// A block's part of one client: its shared memory by name, and what moves between it and global
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
  int64_t lines[2];  // of the coming batch and of the one after it
  int coming = 0;    // samples of the coming batch
  int count = 0;     // samples of the step's batch

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

  // The line of a step's batch; -1 behind the client's last.
  FEDFAST_DEVICE int64_t line_of(int step) const {
    if (step >= p.steps) return -1;
    const int64_t begin = p.offsets[step];
    return begin + client < p.offsets[step + 1] ? begin + client : -1;
  }

  // The first batch is the coming one.
  FEDFAST_DEVICE void begin() {
    lines[0] = line_of(0), lines[1] = line_of(1);
    coming = lines[0] < 0 ? 0 : p.count[lines[0]];
    keep_row(0, row_at(lines[0]));
  }

  // The thread's sample of a batch.
  FEDFAST_DEVICE int64_t row_at(int64_t line) const {
    const bool some = line >= 0 && grid::thread() < p.model.width;
    return some ? p.rows[line * p.model.width + grid::thread()] : 0;
  }

  FEDFAST_DEVICE void keep_row(int step, int64_t row) const {
    if (grid::thread() < p.model.width) rows(step)[grid::thread()] = row;
  }

  // Samples and labels of the coming batch; rows out of range are NaN. What is known of the batch
  // after it is on its way meanwhile.
  FEDFAST_DEVICE void gather(int step) {
    count = coming;
    coming = lines[1] < 0 ? 0 : p.count[lines[1]];
    const int64_t row = row_at(lines[1]);
    lines[0] = lines[1], lines[1] = line_of(step + 2);
    for (int b = grid::thread() / kLanes; b < count; b += kWarps) read(rows(step)[b], b);
    keep_row(step + 1, row);
  }

  // A warp's.
  FEDFAST_DEVICE void read(int64_t row, int b) const {
    const bool known = row >= 0 && row < p.samples;
    const int64_t from = known ? row * p.model.inputs : 0;
    float* x = at(s.x) + b * s.stride1;
    if (p.bytes)
      read<uchar4>(static_cast<const uint8_t*>(p.x) + from, known, x);
    else
      read<float4>(static_cast<const float*>(p.x) + from, known, x);
    if (grid::thread() % kLanes) return;
    const int64_t y = known ? p.y[row] : -1;
    labels()[b] = y < p.model.classes ? int(y) : -1;
  }

  template <typename Four, typename T>
  FEDFAST_DEVICE void read(const T* from, bool known, float* to) const {
    const int inputs = p.model.inputs, lane = grid::thread() % kLanes;
    if (p.wide) {
#pragma unroll 4
      for (int d = 4 * lane; d < inputs; d += 4 * kLanes) {
        const Four v = *reinterpret_cast<const Four*>(from + d);
        const float4 four = {seen(v.x, d), seen(v.y, d + 1), seen(v.z, d + 2), seen(v.w, d + 3)};
        store4(to + d, known ? four : float4{NAN, NAN, NAN, NAN});
      }
    } else {
      for (int d = lane; d < inputs; d += kLanes) to[d] = known ? seen(from[d], d) : NAN;
    }
  }

  FEDFAST_DEVICE float seen(float v, int) const { return v; }
  FEDFAST_DEVICE float seen(uint8_t v, int d) const {
    const int channel = p.plane == p.model.inputs ? 0 : d / p.plane;
    return v * p.scale[channel] + p.shift[channel];
  }

  // The samples of the coming batch come nearer.
  FEDFAST_DEVICE void fetch(int step) const {
    const int64_t size = p.model.inputs * (p.bytes ? 1 : sizeof(float));
    each(coming, int((size + 127) / 128), [&](int b, int part) {
      const int64_t row = rows(step)[b];
      if (row >= 0 && row < p.samples) {
        grid::prefetch(static_cast<const char*>(p.x) + row * size + part * 128);
      }
    });
  }
};

}  // namespace fedfast::cuda
