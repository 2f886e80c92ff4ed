// A cluster of thread blocks on one core of the host: threads are fibers, which run until they meet
// a barrier, in an order that a seed shuffles. For tests.
#pragma once
#include <cmath>
#include <functional>

#include "cuda/resident.h"

#define FEDFAST_KERNEL
#define FEDFAST_DEVICE inline
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(16) float4 {
  float x, y, z, w;
};
struct uchar4 {
  unsigned char x, y, z, w;
};

namespace fedfast::cuda::grid {

// Runs `body` as `blocks` blocks from number `first`, `bytes` of shared memory each, filled with
// NaN. order  0: threads in order; else a seed by which they are shuffled between barriers Throws
// std::logic_error where a barrier is not reached by all of its threads.
void run_cluster(int first, int blocks, int bytes, uint64_t order,
                 const std::function<void()>& body);

int thread();
int block();
float* shared();
void sync();
void sync_cluster();
float* shared_of(int rank);
inline void prefetch(const void*) {}

// Leaves `count` numbers of the calling lane, waits for its warp, returns those of all lanes.
const double* meet_warp(const double* mine, int count);

template <typename T>
const T* peer(T* mine, int rank) {
  const auto offset = reinterpret_cast<char*>(mine) - reinterpret_cast<char*>(shared());
  return reinterpret_cast<const T*>(reinterpret_cast<char*>(shared_of(rank)) + offset);
}

// Over the lanes, `stride` numbers apart, in the order of the device's butterflies.
template <typename T>
T tree(const double* lanes, int stride) {
  T v[kLanes];
  for (int l = 0; l < kLanes; ++l) v[l] = static_cast<T>(lanes[l * stride]);
  for (int half = kLanes / 2; half; half /= 2) {
    for (int l = 0; l < half; ++l) v[l] += v[l + half];
  }
  return v[0];
}

template <int N, typename Emit>
void sum_lanes(float (&v)[N], Emit emit) {
  double mine[N];
  for (int n = 0; n < N; ++n) mine[n] = v[n];
  const double* lanes = meet_warp(mine, N);
  for (int n = thread() % kLanes; n < N; n += kLanes) emit(n, tree<float>(lanes + n, N));
}

template <typename T>
T total(T v) {
  const double mine = v;
  return tree<T>(meet_warp(&mine, 1), 1);
}

}  // namespace fedfast::cuda::grid
