// A thread owns a block of columns: it adds the clients to it one after another, then takes the
// server's step there.
#include "cpu/blocks.h"
#include "cpu/direction.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/server.h"

namespace fedfast {
namespace {

constexpr int kLanes = 32;

// acc += weight (row - base) on n columns; returns the squared norm of row - base there.
template <typename T>
FEDFAST_CLONES double add_client(const T* row, const T* base, double weight, double* __restrict acc,
                                 int64_t n) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      const double update = static_cast<double>(row[i + j]) - static_cast<double>(base[i + j]);
      lane[j] += update * update;
      acc[i + j] += weight * update;
    }
  }
  for (int j = 0; i + j < n; ++j) {
    const double update = static_cast<double>(row[i + j]) - static_cast<double>(base[i + j]);
    lane[j] += update * update;
    acc[i + j] += weight * update;
  }
  double sum = 0;
  for (int j = 0; j < kLanes; ++j) sum += lane[j];
  return sum;
}

// Columns [i, i + n) of every client; squares [K + 1] receives this block's share of the squared
// norms.
template <typename T>
void add_block(const Aggregate<T>& p, int64_t clients, int64_t i, int64_t n, double* squares) {
  double* acc = p.acc + i;
  if (p.first) std::fill(acc, acc + n, 0.0);
  for (int64_t k = 0; k < clients; ++k) {
    squares[k] = add_client(p.rows.row(k) + i, p.base.row(k) + i, p.weights[k], acc, n);
  }
  if (p.server.rule == Rule::none) return;
  squares[clients] = sum_squares(acc, n);
  const ServerRows<T> rows{p.w + i, p.m ? p.m + i : nullptr, p.v ? p.v + i : nullptr, p.out + i};
  serve(p.server, acc, rows, n);
}

}  // namespace

template <typename T>
void aggregate(const Shape& shape, const Aggregate<T>& p) {
  const int64_t blocks = (shape.size + kBlock - 1) / kBlock, width = shape.clients + 1;
  std::vector<double> slots(blocks * width);
  const int threads = worth(shape.threads, blocks, shape.clients * shape.size);
  parallel(threads, blocks, [&](int64_t block, int64_t last) {
    for (; block < last; ++block) {
      const int64_t i = block * kBlock;
      add_block(p, shape.clients, i, std::min(kBlock, shape.size - i), &slots[block * width]);
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
