// How the samples of a client's batches come to a block.
#pragma once
#include "cuda/block.h"

namespace fedfast::cuda {

struct Batches : Block {
  int64_t lines[2];  // of the coming batch and of the one after it
  int coming = 0;    // samples of the coming batch
  int count = 0;     // samples of the step's batch

  FEDFAST_DEVICE explicit Batches(const Launch& launch) : Block(launch) {}

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
