// A thread owns a block of columns: it adds the clients to it one after another, then takes the
// server's step there.
#include <cmath>

#include "cpu/blocks.h"
#include "cpu/direction.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/server.h"

namespace fedfast {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kColumns = 512;  // of a block: its acc, base and rows stay in the first cache

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

// acc += weight (row - base), one client after another, and lane += (row - base)^2 for kLanes
// columns. Arithmetic is the limit here: fma spelled out saves a fifth and rounds alike
// everywhere (before x86-64-v3 it is a slow library call).
template <int kCount, typename T>
FEDFAST_INLINE void add_lanes(const Client<T> (&client)[kCount], int64_t i, double* __restrict acc,
                              double (&__restrict lane)[kCount][kLanes]) {
  FEDFAST_LANES
  for (int j = 0; j < kLanes; ++j) {
    double sum = acc[i + j];
    for (int c = 0; c < kCount; ++c) {
      const double update = static_cast<double>(client[c].row[i + j]) - client[c].base[i + j];
      lane[c][j] = std::fma(update, update, lane[c][j]);
      sum = std::fma(client[c].weight, update, sum);
    }
    acc[i + j] = sum;
  }
}

// The same for n columns; squares[c] = |row - base|^2 there. acc is filled up to kLanes.
template <int kCount, typename T>
FEDFAST_CLONES void add_clients(const Client<T>* clients, int64_t n, double* acc, double* squares) {
  Client<T> client[kCount];
  std::copy(clients, clients + kCount, client);
  double lane[kCount][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int c = 0; c < kCount; ++c) fetch(client[c].next + i, kLanes);
    add_lanes(client, i, acc, lane);
  }
  T last[kCount][kLanes] = {};
  for (int c = 0; c < kCount; ++c) {
    std::copy(client[c].row + i, client[c].row + n, last[c]);
    client[c].row = last[c];
    client[c].base += i;
  }
  if (i < n) add_lanes(client, 0, acc + i, lane);
  for (int c = 0; c < kCount; ++c) squares[c] = sum_in_order(lane[c], kLanes);
}

// Adds all clients to the columns [i, i + n) of acc, two at a time to spare acc the traffic.
template <typename T>
void add_all(const Aggregate<T>& p, int64_t clients, int64_t i, int64_t n, double* acc,
             double* squares) {
  alignas(64) double base[2][kColumns] = {};
  widen(p.base.row(0) + i, base[0], n);
  const auto client = [&](int64_t k, int c) {
    const bool own = p.base.stride != 0;
    if (own) widen(p.base.row(k) + i, base[c], n);
    const T* next = k + 2 < clients ? p.rows.row(k + 2) + i : p.rows.row(k % 2) + i + n;
    return Client<T>{p.rows.row(k) + i, next, base[own ? c : 0], p.weights[k]};
  };
  int64_t k = 0;
  for (; k + 2 <= clients; k += 2) {
    const Client<T> pair[] = {client(k, 0), client(k + 1, 1)};
    add_clients<2>(pair, n, acc, squares + k);
  }
  if (k == clients) return;
  const Client<T> single = client(k, 0);
  add_clients<1>(&single, n, acc, squares + k);
}

// Columns [i, i + n) from clients to server; squares [K + 1] receives this block's share of the
// norms.
template <typename T>
void aggregate_block(const Aggregate<T>& p, int64_t clients, int64_t i, int64_t n,
                     double* squares) {
  alignas(64) double acc[kColumns] = {};
  if (!p.first) std::copy(p.acc + i, p.acc + i + n, acc);
  add_all(p, clients, i, n, acc, squares);
  std::copy(acc, acc + n, p.acc + i);
  if (p.server.rule == Rule::none) return;
  squares[clients] = sum_squares(acc, n);
  const ServerRows<T> rows{p.w + i, p.m ? p.m + i : nullptr, p.v ? p.v + i : nullptr, p.out + i};
  serve(p.server, acc, rows, n);
}

}  // namespace

template <typename T>
void aggregate(const Shape& shape, const Aggregate<T>& p) {
  const int64_t blocks = (shape.size + kColumns - 1) / kColumns, width = shape.clients + 1;
  std::vector<double> slots(blocks * width);
  const int threads = worth(shape.threads, blocks, shape.clients * shape.size);
  parallel(threads, blocks, [&](int64_t block, int64_t last) {
    for (; block < last; ++block) {
      const int64_t i = block * kColumns;
      aggregate_block(p, shape.clients, i, std::min(kColumns, shape.size - i),
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
