// Products of rows in shared memory, a warp to a tile of them; and e^x with the same bits anywhere.
#pragma once
#include "cuda/grid.h"

namespace fedfast::cuda {

FEDFAST_DEVICE float4 load4(const float* at) { return *reinterpret_cast<const float4*>(at); }
FEDFAST_DEVICE void store4(float* at, float4 v) { *reinterpret_cast<float4*>(at) = v; }
FEDFAST_DEVICE int smaller(int a, int b) { return a < b ? a : b; }

FEDFAST_DEVICE float dot4(float4 a, float4 b, float sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  return fmaf(a.w, b.w, sum);
}

// Columns [from, to) of rows, in fours.
struct Columns {
  int from, to;
};

// Rows of two matrices whose products are wanted: n of a, m of b, both `stride` floats apart.
struct Rows {
  const float* a;
  int n;
  const float* b;
  int m, stride;
  Columns columns;
};

// The products of N rows of a from i0 on and of S rows of b from j0 on: a lane adds every 32nd four
// of columns, one after another, then lanes are added. Rows of b behind the last are read as it.
template <int N, int S, typename Emit>
FEDFAST_DEVICE void tile(const Rows& r, int i0, int j0, Emit emit) {
  float sums[N * S] = {};
  const float* a = r.a + i0 * r.stride;
  const float* b[S];
#pragma unroll
  for (int j = 0; j < S; ++j) b[j] = r.b + smaller(j0 + j, r.m - 1) * r.stride;
  for (int q = r.columns.from + grid::thread() % kLanes; q < r.columns.to; q += kLanes) {
    float4 left[N];
#pragma unroll
    for (int i = 0; i < N; ++i) left[i] = load4(a + i * r.stride + 4 * q);
#pragma unroll
    for (int j = 0; j < S; ++j) {
      const float4 right = load4(b[j] + 4 * q);
#pragma unroll
      for (int i = 0; i < N; ++i) sums[i * S + j] = dot4(left[i], right, sums[i * S + j]);
    }
  }
  grid::sum_lanes<N * S>(sums, [&](int at, float sum) { emit(i0 + at / S, j0 + at % S, sum); });
}

// Of a height that is known when the kernel runs: any up to 8, or a power of two.
template <int S, bool kAny, typename Emit>
FEDFAST_DEVICE void tile_of(int height, const Rows& r, int i0, int j0, Emit emit) {
  if constexpr (kAny) {
    switch (height) {
      case 3:
        return tile<3, S>(r, i0, j0, emit);
      case 5:
        return tile<5, S>(r, i0, j0, emit);
      case 6:
        return tile<6, S>(r, i0, j0, emit);
      case 7:
        return tile<7, S>(r, i0, j0, emit);
    }
  }
  switch (height) {
    case 1:
      return tile<1, S>(r, i0, j0, emit);
    case 2:
      return tile<2, S>(r, i0, j0, emit);
    case 4:
      return tile<4, S>(r, i0, j0, emit);
    default:
      return tile<8, S>(r, i0, j0, emit);
  }
}

// emit(i, j, a_i b_j) for all rows, in tiles of `height` <= n rows of a. The last tile begins early
// enough to be a whole one.
template <int S, bool kAny, typename Emit>
FEDFAST_DEVICE void multiply(const Rows& r, int height, Emit emit) {
  const int across = (r.n + height - 1) / height, tiles = across * ((r.m + S - 1) / S);
  for (int t = grid::thread() / kLanes; t < tiles; t += kWarps) {
    const int i0 = t % across * height, j0 = t / across * S;
    tile_of<S, kAny>(height, r, smaller(i0, r.n - height), j0, [&](int i, int j, float sum) {
      if (i >= i0 && j < r.m) emit(i, j, sum);
    });
  }
}

// The same in tiles of 1, 2, 4 or 8 rows, a tile for each warp if there are few.
template <int S, typename Emit>
FEDFAST_DEVICE void multiply_few(const Rows& r, Emit emit) {
  const int even = (r.n + kWarps - 1) / kWarps;
  multiply<S, false>(r, even < 3 ? even : even < 5 ? 4 : 8, emit);
}

// e^x for x <= 0, within an ulp or two; 0 below -87. Cody and Waite's reduction, Taylor to r^7.
FEDFAST_DEVICE float exponential(float x) {
  if (!(x >= -87.f)) return x == x ? 0.f : x;
  const float n = rintf(x * 1.44269504f);
  const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
  float sum = 1.f / 5040;
  sum = fmaf(sum, r, 1.f / 720);
  sum = fmaf(sum, r, 1.f / 120);
  sum = fmaf(sum, r, 1.f / 24);
  sum = fmaf(sum, r, 1.f / 6);
  sum = fmaf(sum, r, 0.5f);
  sum = fmaf(sum, r, 1.f);
  return ldexpf(fmaf(sum, r, 1.f), static_cast<int>(n));
}

}  // namespace fedfast::cuda
