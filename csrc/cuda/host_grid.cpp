#include "cuda/host_grid.h"

#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

namespace fedfast::cuda::grid {
namespace {

constexpr size_t kStack = 64 << 10;

// Threads that wait for each other: the last of them wakes all.
struct Barrier {
  int threads = 0, arrived = 0;
  uint64_t passed = 0;  // how often all have arrived
};

struct Warp {
  Barrier barrier;
  std::vector<double> slots[2];  // by turns: who is ahead writes what nobody reads
};

struct Block {
  Barrier barrier;
  std::vector<double> memory;
  Warp warps[kWarps];
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  int thread, rank;
  const Barrier* waits = nullptr;  // until `passed` is above `turn`
  uint64_t turn = 0;
  bool done = false;

  bool ready() const { return !done && (!waits || waits->passed > turn); }
};

struct Cluster {
  int first;
  Barrier barrier;
  std::vector<Block> blocks;
  std::vector<Fiber> fibers;
  const std::function<void()>* body;
  ucontext_t scheduler;
  Fiber* now = nullptr;
};

Cluster* running = nullptr;

Block& here() { return running->blocks[running->now->rank]; }

void wait(Barrier& barrier) {
  Fiber& fiber = *running->now;
  fiber.waits = &barrier, fiber.turn = barrier.passed;
  if (++barrier.arrived == barrier.threads) barrier.arrived = 0, ++barrier.passed;
  swapcontext(&fiber.context, &running->scheduler);
}

void enter() {
  (*running->body)();
  running->now->done = true;
}

void prepare(Cluster& cluster, int blocks, int bytes) {
  cluster.blocks.resize(blocks), cluster.fibers.resize(blocks * kThreads);
  cluster.barrier.threads = blocks * kThreads;
  for (Block& block : cluster.blocks) {
    block.memory.resize(bytes / sizeof(double) + 1);
    std::memset(block.memory.data(), 0xff, bytes);
    block.barrier.threads = kThreads;
    for (Warp& warp : block.warps) warp.barrier.threads = kLanes;
  }
  for (size_t i = 0; i < cluster.fibers.size(); ++i) {
    Fiber& fiber = cluster.fibers[i];
    fiber.thread = int(i) % kThreads, fiber.rank = int(i) / kThreads;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get(), fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &cluster.scheduler;
    makecontext(&fiber.context, enter, 0);
  }
}

// One turn of every thread that can go on; how many could.
int turn(Cluster& cluster, const std::vector<int>& order) {
  int went = 0;
  for (const int i : order) {
    if (!cluster.fibers[i].ready()) continue;
    cluster.now = &cluster.fibers[i], ++went;
    swapcontext(&cluster.scheduler, &cluster.now->context);
  }
  return went;
}

}  // namespace

void run_cluster(int first, int blocks, int bytes, uint64_t order,
                 const std::function<void()>& body) {
  Cluster cluster;
  cluster.first = first, cluster.body = &body;
  prepare(cluster, blocks, bytes);
  running = &cluster;
  std::vector<int> turns(cluster.fibers.size());
  for (size_t i = 0; i < turns.size(); ++i) turns[i] = int(i);
  std::mt19937_64 random(order);
  do {
    if (order) std::shuffle(turns.begin(), turns.end(), random);
  } while (turn(cluster, turns));
  running = nullptr;
  const auto done = [](const Fiber& fiber) { return fiber.done; };
  if (!std::all_of(cluster.fibers.begin(), cluster.fibers.end(), done)) {
    throw std::logic_error("run_cluster: a barrier was not reached by all of its threads");
  }
}

int thread() { return running->now->thread; }
int block() { return running->first + running->now->rank; }
float* shared() { return shared_of(running->now->rank); }
float* shared_of(int rank) { return reinterpret_cast<float*>(running->blocks[rank].memory.data()); }
void sync() { wait(here().barrier); }
void sync_cluster() { wait(running->barrier); }

const double* meet_warp(const double* mine, int count) {
  Warp& warp = here().warps[thread() / kLanes];
  std::vector<double>& slots = warp.slots[warp.barrier.passed % 2];
  slots.resize(std::max<size_t>(slots.size(), size_t(count) * kLanes));
  std::copy(mine, mine + count, slots.begin() + thread() % kLanes * count);
  wait(warp.barrier);
  return slots.data();
}

}  // namespace fedfast::cuda::grid
