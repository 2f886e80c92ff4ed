#include <stdexcept>

#include "cuda/resident.h"
#include "cuda/steps.h"

namespace fedfast::cuda {

// A cluster of p.plan.blocks blocks for each client.
template <int S>
FEDFAST_KERNEL void __launch_bounds__(kThreads, 1) resident(const __grid_constant__ Launch p) {
  Steps<S>(p).run();
}

namespace {

using Kernel = void (*)(Launch);

Kernel kernel_for(const Plan& plan) {
  if (plan.samples == 4) return resident<4>;
  return plan.samples == 8 ? resident<8> : resident<10>;
}

#ifdef __CUDACC__

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// `clients` clusters of the plan's size.
struct Config {
  cudaLaunchAttribute cluster;
  cudaLaunchConfig_t launch{};

  Config(const Plan& plan, int clients) {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {unsigned(plan.blocks), 1, 1};
    launch.gridDim = dim3(clients * plan.blocks), launch.blockDim = dim3(kThreads);
    launch.dynamicSmemBytes = plan.shared.end * sizeof(float);
    launch.attrs = &cluster, launch.numAttrs = 1;
  }
};

void allow(const Plan& plan) {
  const int bytes = plan.shared.end * int(sizeof(float));
  const auto most = cudaFuncAttributeMaxDynamicSharedMemorySize;
  check(cudaFuncSetAttribute(kernel_for(plan), most, bytes));
  const auto large = cudaFuncAttributeNonPortableClusterSizeAllowed;
  check(cudaFuncSetAttribute(kernel_for(plan), large, plan.blocks > 8));
}

#endif

}  // namespace

#ifdef __CUDACC__

void train(const Launch& p, uint64_t stream) {
  if (!p.clients) return;
  allow(p.plan);
  Config config(p.plan, p.clients);
  config.launch.stream = reinterpret_cast<cudaStream_t>(stream);
  check(cudaLaunchKernelEx(&config.launch, kernel_for(p.plan), p));
}

int clusters_at_once(const Plan& plan) {
  int device = 0, most = 0, found = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (plan.shared.end * int(sizeof(float)) > most) return 0;
  allow(plan);
  Config config(plan, 1);
  check(cudaOccupancyMaxActiveClusters(&found, kernel_for(plan), &config.launch));
  return found;
}

#else

void train(const Launch& p, uint64_t order) {
  const int blocks = p.plan.blocks, bytes = p.plan.shared.end * int(sizeof(float));
  for (int k = 0; k < p.clients; ++k) {
    grid::run_cluster(k * blocks, blocks, bytes, order, [&] { kernel_for(p.plan)(p); });
  }
}

int clusters_at_once(const Plan&) { return 1; }

#endif

}  // namespace fedfast::cuda
