// The changes between squares and planes of F(2 x 2, 3 x 3), over any vector type V (see
// conv_tile.h). Each is the same step along columns, then along rows.
//
// Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016; the steps
// of a weight gradient are the transposes of theirs.
#pragma once

#include "cpu/conv_kernels.h"

namespace fedfast {
namespace {

constexpr int kPlaneSide = 4;

struct PixelStep {
  static constexpr int from = 4, to = 4;
  template <typename V, typename R>
  FEDFAST_TARGET static FEDFAST_INLINE void apply(const R* x, R* y) {
    y[0] = V::sub(x[0], x[2]);
    y[1] = V::add(x[1], x[2]);
    y[2] = V::sub(x[2], x[1]);
    y[3] = V::sub(x[1], x[3]);
  }
};

struct ResultStep {
  static constexpr int from = 2, to = 4;
  template <typename V, typename R>
  FEDFAST_TARGET static FEDFAST_INLINE void apply(const R* x, R* y) {
    y[0] = x[0];
    y[1] = V::add(x[0], x[1]);
    y[2] = V::sub(x[0], x[1]);
    y[3] = V::sub(V::zero(), x[1]);
  }
};

struct TapStep {
  static constexpr int from = 3, to = 4;
  template <typename V, typename R>
  FEDFAST_TARGET static FEDFAST_INLINE void apply(const R* x, R* y) {
    const R half = V::broadcast(0.5), ends = V::add(x[0], x[2]);
    y[0] = x[0];
    y[1] = V::mul(half, V::add(ends, x[1]));
    y[2] = V::mul(half, V::sub(ends, x[1]));
    y[3] = x[2];
  }
};

struct ResultBack {
  static constexpr int from = 4, to = 2;
  template <typename V, typename R>
  FEDFAST_TARGET static FEDFAST_INLINE void apply(const R* x, R* y) {
    y[0] = V::add(V::add(x[0], x[1]), x[2]);
    y[1] = V::sub(V::sub(x[1], x[2]), x[3]);
  }
};

struct PixelBack {
  static constexpr int from = 4, to = 4;
  template <typename V, typename R>
  FEDFAST_TARGET static FEDFAST_INLINE void apply(const R* x, R* y) {
    y[0] = x[0];
    y[1] = V::add(V::sub(x[1], x[2]), x[3]);
    y[2] = V::sub(V::add(x[1], x[2]), x[0]);
    y[3] = V::sub(V::zero(), x[3]);
  }
};

struct TapBack {
  static constexpr int from = 4, to = 3;
  template <typename V, typename R>
  FEDFAST_TARGET static FEDFAST_INLINE void apply(const R* x, R* y) {
    const R half = V::broadcast(0.5), middle = V::mul(half, V::add(x[1], x[2]));
    y[0] = V::add(x[0], middle);
    y[1] = V::mul(half, V::sub(x[1], x[2]));
    y[2] = V::add(middle, x[3]);
  }
};

// Both steps on one vector of a square: x [from, from] becomes y [to, to].
template <typename V, typename Step>
FEDFAST_TARGET FEDFAST_INLINE void both_ways(const typename V::Reg (&x)[Step::from][Step::from],
                                             typename V::Reg (&y)[Step::to][Step::to]) {
  using Reg = typename V::Reg;
  Reg half[Step::to][Step::from];
#pragma GCC unroll 4
  for (int j = 0; j < Step::from; ++j) {
    Reg column[Step::from], out[Step::to];
#pragma GCC unroll 4
    for (int i = 0; i < Step::from; ++i) column[i] = x[i][j];
    Step::template apply<V>(column, out);
#pragma GCC unroll 4
    for (int i = 0; i < Step::to; ++i) half[i][j] = out[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < Step::to; ++i) Step::template apply<V>(half[i], y[i]);
}

template <typename V, typename Step>
FEDFAST_TARGET void lift(const Lift<typename V::T>& l) {
  using T = typename V::T;
  constexpr int side = Step::from;
  for (int64_t square = 0; square < l.count; ++square) {
    const T* from[side * side];
    for (int i = 0; i < side * side; ++i) {
      from[i] = l.rows + int64_t{l.at[square * side * side + i]} * l.row;
    }
    T* to = l.planes + square * l.plane_row;
    for (int64_t w = 0; w < l.width; w += V::lanes) {
      typename V::Reg x[side][side], y[kPlaneSide][kPlaneSide];
#pragma GCC unroll 16
      for (int i = 0; i < side * side; ++i) x[i / side][i % side] = V::load(from[i] + w);
      both_ways<V, Step>(x, y);
#pragma GCC unroll 16
      for (int i = 0; i < kPlanes; ++i) {
        V::store(to + i * l.plane + w, y[i / kPlaneSide][i % kPlaneSide]);
      }
    }
  }
}

template <typename V, typename Step, bool Adds = false>
FEDFAST_TARGET void drop(const Drop<typename V::T>& d) {
  using T = typename V::T;
  constexpr int side = Step::to;
  for (int64_t square = 0; square < d.count; ++square) {
    T* to[side * side];
    for (int i = 0; i < side * side; ++i) {
      to[i] = d.rows + int64_t{d.at[square * side * side + i]} * d.row;
    }
    const T* from = d.planes + square * d.plane_row;
    for (int64_t w = 0; w < d.width; w += V::lanes) {
      typename V::Reg x[kPlaneSide][kPlaneSide], y[side][side];
#pragma GCC unroll 16
      for (int i = 0; i < kPlanes; ++i) {
        x[i / kPlaneSide][i % kPlaneSide] = V::load(from + i * d.plane + w);
      }
      both_ways<V, Step>(x, y);
#pragma GCC unroll 16
      for (int i = 0; i < side * side; ++i) {
        const typename V::Reg value = y[i / side][i % side];
        V::store(to[i] + w, Adds ? V::add(V::load(to[i] + w), value) : value);
      }
    }
  }
}

}  // namespace
}  // namespace fedfast
