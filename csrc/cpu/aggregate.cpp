// A thread owns a block of columns: it adds the clients to it in their order
// (kernels/summation.py), then takes the server's step there.
#include <cmath>
#include <cstdlib>

#include "cpu/blocks.h"
#include "cpu/direction.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/server.h"

namespace fedfast {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kColumns = 512;  // of a block: its sums, base and rows stay in the first cache
constexpr int kMost = 4;           // clients in a pass over a block
constexpr int kNodes = 14;         // 13 at most: of any run of at most 64 leaves, and one below

// base as float64: shared by all clients, it is widened once.
template <typename T>
FEDFAST_CLONES void widen(const T* base, double* wide, int64_t n) {
  for (int64_t i = 0; i < n; ++i) wide[i] = base[i];
}

// One client's columns in a block.
template <typename T>
struct Client {
  const T* row;        // [n]
  const T* next;       // [n], what is fetched meanwhile
  const double* base;  // [n], filled up to kLanes
  double weight;
};

// One pass over a block adds kCount clients in leaves of kLeaf, whose sums are joined by the tree.
//   kOn     a single leaf: goes on with a node that has begun
//   kBelow  the sum is finished, and added to the node below it

// The sum of kCount clients, and lane += (row - base)^2, for kLanes columns. Arithmetic is the
// limit here: fma spelled out saves a fifth and rounds alike everywhere (before x86-64-v3 it is a
// slow library call).
template <int kCount, int kLeaf, bool kOn, bool kBelow, typename T>
FEDFAST_INLINE void add_lanes(const Client<T> (&client)[kCount], int64_t i, double* __restrict acc,
                              double (&__restrict lane)[kCount][kLanes]) {
  FEDFAST_LANES
  for (int j = 0; j < kLanes; ++j) {
    const auto term = [&](int c, double sum) {
      const double update = static_cast<double>(client[c].row[i + j]) - client[c].base[i + j];
      lane[c][j] = std::fma(update, update, lane[c][j]);
      return std::fma(client[c].weight, update, sum);
    };
    const auto leaf = [&](int c, double sum) {
      for (int each = 0; each < kLeaf; ++each) sum = term(c + each, sum);
      return sum;
    };
    double sum = leaf(0, kOn ? acc[i + j] : 0);
    if constexpr (kCount / kLeaf > 1) sum += leaf(kLeaf, 0);
    if constexpr (kCount / kLeaf > 2) sum += leaf(2 * kLeaf, 0) + leaf(3 * kLeaf, 0);
    acc[i + j] = kBelow ? acc[i + j] + sum : sum;
  }
}

// The same for n columns; squares[c] = |row - base|^2 there. acc is filled up to kLanes.
template <int kCount, int kLeaf, bool kOn, bool kBelow, typename T>
FEDFAST_CLONES void add_clients(const Client<T>* clients, int64_t n, double* acc, double* squares) {
  Client<T> client[kCount];
  std::copy(clients, clients + kCount, client);
  double lane[kCount][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int c = 0; c < kCount; ++c) fetch(client[c].next + i, kLanes);
    add_lanes<kCount, kLeaf, kOn, kBelow>(client, i, acc, lane);
  }
  T last[kCount][kLanes] = {};
  for (int c = 0; c < kCount; ++c) {
    std::copy(client[c].row + i, client[c].row + n, last[c]);
    client[c].row = last[c];
    client[c].base += i;
  }
  if (i < n) add_lanes<kCount, kLeaf, kOn, kBelow>(client, 0, acc + i, lane);
  for (int c = 0; c < kCount; ++c) squares[c] = sum_in_order(lane[c], kLanes);
}

FEDFAST_CLONES void join(double* __restrict below, const double* __restrict node, int64_t n) {
  for (int64_t i = 0; i < n; ++i) below[i] += node[i];
}

template <typename T>
using AddClients = void (*)(const Client<T>*, int64_t, double*, double*);

// One pass over a block: `count` clients from k on into `node`, and how many joins follow.
template <typename T>
struct Pass {
  int64_t k;
  int count, node, joins;
  AddClients<T> add;
};

template <typename T, int kCount, int kLeaf>
AddClients<T> chosen(bool on, bool below) {
  if (below) return add_clients<kCount, kLeaf, false, true, T>;
  if constexpr (kCount == kLeaf) {
    if (on) return add_clients<kCount, kLeaf, true, false, T>;
  }
  return add_clients<kCount, kLeaf, false, false, T>;
}

template <typename T>
AddClients<T> chosen(int count, int leaf, bool on, bool below) {
  if (count == 4) {
    return leaf == 1   ? chosen<T, 4, 1>(on, below)
           : leaf == 2 ? chosen<T, 4, 2>(on, below)
                       : chosen<T, 4, 4>(on, below);
  }
  if (count == 2) return leaf == 1 ? chosen<T, 2, 1>(on, below) : chosen<T, 2, 2>(on, below);
  return chosen<T, 1, 1>(on, below);
}

// An order, read client by client.
struct Order {
  const int32_t* order;
  int64_t clients;

  int node(int64_t k) const { return std::abs(order[k + 1]) - 1; }
  bool begins(int64_t k) const { return order[k + 1] < 0; }
  int joins(int64_t k) const {  // after client k
    const int then = order[k + 2];
    return node(k) + 1 - (then < 0 ? -then - 1 : then);
  }

  // Whether clients k .. k + count - 1 are leaves of `leaf` clients, and what joins them.
  bool fits(int64_t k, int count, int leaf) const {
    if (k + count > clients || (leaf < count && !begins(k))) return false;
    for (int c = 0; c < count; ++c) {
      const int ended = (c + 1) / leaf, inside = (c + 1) % leaf ? 0 : __builtin_ctz(ended);
      if (c && begins(k + c) != (c % leaf == 0)) return false;
      if (c + 1 < count ? joins(k + c) != inside : joins(k + c) < inside) return false;
    }
    return true;
  }
};

// The passes that an order takes: up to four clients at a time to spare the sum the traffic, and
// the first join that is left with them where the node has begun there.
template <typename T>
std::vector<Pass<T>> passes_of(const Order& order) {
  constexpr int kForms[][2] = {{4, 4}, {4, 2}, {4, 1}, {2, 2}, {2, 1}, {1, 1}};
  std::vector<Pass<T>> passes;
  for (int64_t k = 0; k < order.clients;) {
    int form = 0;
    while (!order.fits(k, kForms[form][0], kForms[form][1])) ++form;
    const auto [count, leaf] = kForms[form];
    const int left = order.joins(k + count - 1) - __builtin_ctz(count / leaf);
    const bool begins = order.begins(k), below = begins && left > 0;
    const auto add = chosen<T>(count, leaf, !begins, below);
    passes.push_back({k, count, order.node(k) - below, left - below, add});
    k += count;
  }
  return passes;
}

// What all blocks share: the passes, and the nodes [low, before) that are read and [low, after)
// that are written.
template <typename T>
struct Work {
  std::vector<Pass<T>> passes;
  int low, before, after;

  Work(const int32_t* order, int64_t clients)
      : passes(passes_of<T>({order, clients})),
        low(order[0]),
        before(order[0]),
        after(order[clients + 1]) {
    for (const Pass<T>& pass : passes) low = std::min(low, pass.node - pass.joins);
  }
};

template <typename T>
double* node_of(const Aggregate<T>& p, int node) {
  return node == 0 ? p.acc : p.nodes.row(node - 1);
}

// Adds all clients to the columns [i, i + n) of the nodes.
template <typename T>
void add_all(const Aggregate<T>& p, const Work<T>& work, int64_t clients, int64_t i, int64_t n,
             double (*nodes)[kColumns], double* squares) {
  alignas(64) double base[kMost][kColumns] = {};
  widen(p.base.row(0) + i, base[0], n);
  const bool own = p.base.stride != 0;
  for (const Pass<T>& pass : work.passes) {
    Client<T> group[kMost];
    for (int c = 0; c < pass.count; ++c) {
      const int64_t k = pass.k + c, then = k + pass.count;
      if (own) widen(p.base.row(k) + i, base[c], n);
      const T* next = then < clients ? p.rows.row(then) + i : p.rows.row(c) + i + n;
      group[c] = {p.rows.row(k) + i, next, base[own ? c : 0], p.weights[k]};
    }
    int top = pass.node;
    pass.add(group, n, nodes[top], squares + pass.k);
    for (; top > pass.node - pass.joins; --top) join(nodes[top - 1], nodes[top], n);
  }
}

// Columns [i, i + n) from clients to server; squares [K + 1] receives this block's share of the
// norms.
template <typename T>
void aggregate_block(const Aggregate<T>& p, const Work<T>& work, int64_t clients, int64_t i,
                     int64_t n, double* squares) {
  alignas(64) double nodes[kNodes][kColumns];
  for (int node = work.low; node < work.before; ++node) {
    const double* held = node_of(p, node) + i;
    std::copy(held, held + n, nodes[node]);
  }
  add_all(p, work, clients, i, n, nodes, squares);
  for (int node = work.low; node < work.after; ++node) {
    std::copy(nodes[node], nodes[node] + n, node_of(p, node) + i);
  }
  if (p.server.rule == Rule::none) return;
  squares[clients] = sum_squares(nodes[0], n);
  const ServerRows<T> rows{p.w + i, p.m ? p.m + i : nullptr, p.v ? p.v + i : nullptr, p.out + i};
  serve(p.server, nodes[0], rows, n);
}

}  // namespace

template <typename T>
void aggregate(const Shape& shape, const Aggregate<T>& p) {
  const int64_t blocks = (shape.size + kColumns - 1) / kColumns, width = shape.clients + 1;
  std::vector<double> slots(blocks * width);
  const Work<T> work(p.order, shape.clients);
  const int threads = worth(shape.threads, blocks, shape.clients * shape.size);
  parallel(threads, blocks, [&](int64_t block, int64_t last) {
    for (; block < last; ++block) {
      const int64_t i = block * kColumns;
      aggregate_block(p, work, shape.clients, i, std::min(kColumns, shape.size - i),
                      &slots[block * width]);
    }
  });
  const int64_t known = shape.clients + (p.server.rule != Rule::none);
  std::fill(p.squares, p.squares + known, 0.0);
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t k = 0; k < known; ++k) p.squares[k] += slots[block * width + k];
  }
}

template void aggregate(const Shape&, const Aggregate<float>&);
template void aggregate(const Shape&, const Aggregate<double>&);

}  // namespace fedfast
