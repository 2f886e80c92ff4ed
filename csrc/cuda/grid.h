// What the kernel asks of its threads, blocks and clusters: on a GPU here, on the host in
// host_grid.h, where the tests run the same source.
#pragma once
#ifdef __CUDACC__
#include <cooperative_groups.h>

#include "cuda/resident.h"

#define FEDFAST_KERNEL __global__
#define FEDFAST_DEVICE __device__ __forceinline__

namespace fedfast::cuda::grid {

FEDFAST_DEVICE int thread() { return threadIdx.x; }
FEDFAST_DEVICE int block() { return blockIdx.x; }

FEDFAST_DEVICE float* shared() {
  extern __shared__ float4 memory[];
  return reinterpret_cast<float*>(memory);
}

FEDFAST_DEVICE void sync() { __syncthreads(); }
FEDFAST_DEVICE void sync_cluster() { cooperative_groups::this_cluster().sync(); }

// What lies at `mine` in the shared memory of block `rank` of the cluster.
template <typename T>
FEDFAST_DEVICE const T* peer(T* mine, int rank) {
  return cooperative_groups::this_cluster().map_shared_rank(mine, rank);
}

FEDFAST_DEVICE void prefetch(const void* line) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
}

// A stage of `sum_lanes`: the lane keeps one half of its N sums and gives its neighbour the other.
template <int N, int Distance>
FEDFAST_DEVICE void halve(float* v) {
  constexpr int half = (N + 1) / 2;
  const bool upper = thread() & Distance;
#pragma unroll
  for (int i = 0; i < half; ++i) {
    const float low = v[i], high = half + i < N ? v[half + i] : 0.f;
    v[i] = (upper ? high : low) + __shfl_xor_sync(~0u, upper ? low : high, Distance);
  }
  if constexpr (Distance > 1) halve<half, Distance / 2>(v);
}

// How many sums a lane is left with, and which of the N its i-th is; -1 for none.
template <int N, int Distance = kLanes / 2>
FEDFAST_DEVICE constexpr int left() {
  constexpr int half = (N + 1) / 2;
  if constexpr (Distance == 1)
    return half;
  else
    return left<half, Distance / 2>();
}

template <int N, int Distance = kLanes / 2>
FEDFAST_DEVICE int which(int i) {
  constexpr int half = (N + 1) / 2;
  int at = i;
  if constexpr (Distance > 1) at = which<half, Distance / 2>(i);
  if (at < 0) return -1;
  at += thread() & Distance ? half : 0;
  return at < N ? at : -1;
}

// Each of N sums over the lanes of a warp, lane l with l ^ 16 first, then ^ 8, 4, 2, 1: emit(n,
// sum) by one lane for each n.
template <int N, typename Emit>
FEDFAST_DEVICE void sum_lanes(float (&v)[N], Emit emit) {
  halve<N, kLanes / 2>(v);
#pragma unroll
  for (int i = 0; i < left<N>(); ++i) {
    const int n = which<N>(i);
    if (n >= 0) emit(n, v[i]);
  }
}

// The same of one number, for every lane.
template <typename T>
FEDFAST_DEVICE T total(T v) {
#pragma unroll
  for (int distance = kLanes / 2; distance; distance /= 2) {
    v += __shfl_xor_sync(~0u, v, distance);
  }
  return v;
}

}  // namespace fedfast::cuda::grid
#else
#include "cuda/host_grid.h"
#endif
