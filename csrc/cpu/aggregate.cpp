// A thread owns a block of columns: it adds the clients to it one after another, then takes the
// server's step there.
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

// kLanes columns of acc += weight (row - base); lane += (row - base)^2.
template <typename T>
FEDFAST_INLINE void add_lanes(const T* row, const double* base, double weight,
                              double* __restrict acc, double* __restrict lane) {
  FEDFAST_LANES
  for (int j = 0; j < kLanes; ++j) {
    const double update = static_cast<double>(row[j]) - base[j];
    lane[j] += update * update;
    acc[j] += weight * update;
  }
}

// acc += weight (row - base) on n columns; returns the squared norm of row - base there.
// Meanwhile the same columns of the client after it are fetched. base and acc are filled up to kLanes.
template <typename T>
FEDFAST_CLONES double add_client(const T* row, const T* next, const double* base, double weight,
                                 double* acc, int64_t n) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    fetch(next + i, kLanes);
    add_lanes(row + i, base + i, weight, acc + i, lane);
  }
  if (i < n) {
    T last[kLanes] = {};
    std::copy(row + i, row + n, last);
    add_lanes(last, base + i, weight, acc + i, lane);
  }
  double sum = 0;
  for (int j = 0; j < kLanes; ++j) sum += lane[j];
  return sum;
}

// Columns [i, i + n) of every client; squares [K + 1] receives this block's share of the norms.
template <typename T>
void add_block(const Aggregate<T>& p, int64_t clients, int64_t i, int64_t n, double* squares) {
  alignas(64) double acc[kColumns] = {}, base[kColumns] = {};
  if (!p.first) std::copy(p.acc + i, p.acc + i + n, acc);
  for (int64_t k = 0; k < clients; ++k) {
    if (k == 0 || p.base.stride != 0) widen(p.base.row(k) + i, base, n);
    const T* next = k + 1 < clients ? p.rows.row(k + 1) + i : p.rows.row(0) + i + n;
    squares[k] = add_client(p.rows.row(k) + i, next, base, p.weights[k], acc, n);
  }
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
      add_block(p, shape.clients, i, std::min(kColumns, shape.size - i), &slots[block * width]);
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
