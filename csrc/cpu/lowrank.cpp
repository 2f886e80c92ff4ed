// A dense layer's gradient d^T x is never formed: its norm and its products with other matrices go
// through Gram matrices of the batch, [B, B].
#include <algorithm>
#include <cmath>

#include "cpu/activation.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// Where so little is left of the sum's magnitude, its rounding would show in the norm.
constexpr double kCancelled = 1.0 / 512;
constexpr int64_t kLanes = 16;
constexpr int64_t kPanel = 8;           // rows of the gradient formed at a time
constexpr int64_t kJoined = 28;         // the same where all of it is: two tiles
constexpr int kGram = 2, kProduct = 3;  // slots of scratch memory that gemm leaves alone

struct Sums {
  double signed_sum = 0, magnitude = 0;
};

// The sum of a o b and of its absolute values, in fixed lanes.
template <typename T>
FEDFAST_CLONES Sums inner(const T* a, const T* b, int64_t n) {
  double sum[kLanes] = {}, magnitude[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    FEDFAST_LANES
    for (int64_t l = 0; l < kLanes; ++l) {
      const double product = static_cast<double>(a[i + l]) * static_cast<double>(b[i + l]);
      sum[l] += product;
      magnitude[l] += std::abs(product);
    }
  }
  Sums s;
  for (; i < n; ++i) {
    const double product = static_cast<double>(a[i]) * static_cast<double>(b[i]);
    s.signed_sum += product;
    s.magnitude += std::abs(product);
  }
  for (int64_t l = 0; l < kLanes; ++l) {
    s.signed_sum += sum[l];
    s.magnitude += magnitude[l];
  }
  return s;
}

// c = a b^T + ones, a and b [rows, depth].
template <typename T>
void gram_of(int64_t rows, int64_t depth, const T* a, const T* b, T ones, T* c) {
  gemm(rows, rows, depth, Matrix<T>{a, depth, 1}, Matrix<T>{b, depth, 1}.transposed(),
       Sum<T>{c, rows});
  if (ones == 0) return;
  for (int64_t i = 0; i < rows * rows; ++i) c[i] += ones;
}

// The same norm with the gradient formed, a few of its rows at a time.
template <typename T>
double formed(const Ghost<T>& p, const T* x, const T* d) {
  T* rows = scratch<T>(kProduct, kPanel * p.inputs);
  double sum = 0;
  for (int64_t o = 0; o < p.outputs; o += kPanel) {
    const int64_t count = std::min(kPanel, p.outputs - o);
    const Matrix<T> part{d + o, p.outputs, 1};
    gemm(count, p.inputs, p.batch, part.transposed(), Matrix<T>{x, p.inputs, 1},
         Sum<T>{rows, p.inputs});
    sum += inner(rows, rows, count * p.inputs).signed_sum;
  }
  for (int64_t o = 0; p.ones != 0 && o < p.outputs; ++o) {
    double column = 0;
    for (int64_t b = 0; b < p.batch; ++b) column += d[b * p.outputs + o];
    sum += p.ones * column * column;
  }
  return sum;
}

template <typename T>
void one_client(const Ghost<T>& p, int64_t k) {
  const T *x = p.x.row(k), *d = p.d.row(k);
  T* products = scratch<T>(kProduct, p.batch * p.batch);
  gram_of(p.batch, p.inputs, x, x, p.ones, p.gram.row(k));
  gram_of(p.batch, p.outputs, d, d, T{0}, products);
  const Sums s = inner(p.gram.row(k), products, p.batch * p.batch);
  const bool fine = !(s.signed_sum < kCancelled * s.magnitude);  // NaN stays NaN
  *p.squares.row(k) = fine ? s.signed_sum : formed(p, x, d);
}

// |d^T x + add_weight|^2 + ones |sum_B d + add_bias|^2, a few rows of it formed at a time.
template <typename T>
double formed(const Joined<T>& p, int64_t k) {
  const T *x = p.x.row(k), *d = p.d.row(k), *add = p.add_weight.row(k);
  T* rows = scratch<T>(kProduct, kJoined * p.inputs);
  double sum = 0;
  for (int64_t o = 0; o < p.outputs; o += kJoined) {
    const int64_t count = std::min(kJoined, p.outputs - o);
    const Matrix<T> part{d + o, p.outputs, 1};
    gemm(count, p.inputs, p.batch, part.transposed(), Matrix<T>{x, p.inputs, 1},
         Sum<T>{rows, p.inputs, T{1}, T{1}, add + o * p.inputs, p.inputs});
    sum += inner(rows, rows, count * p.inputs).signed_sum;
  }
  for (int64_t o = 0; p.ones != 0 && o < p.outputs; ++o) {
    double column = p.add_bias ? p.add_bias.row(k)[o] : T{0};
    for (int64_t b = 0; b < p.batch; ++b) column += d[b * p.outputs + o];
    sum += p.ones * column * column;
  }
  return sum;
}

template <typename T>
void one_client(const Joined<T>& p, int64_t k) {
  const double added = std::sqrt(p.added[0].sum(k) + p.added[1].sum(k));
  const double waiting = std::sqrt(p.known[0].sum(k)) + added;
  const double most = std::sqrt(p.known[1].sum(k) + waiting * waiting);
  *p.squares.row(k) = most <= p.limit ? 0.0 : formed(p, k);
}

template <typename T>
void one_client(const LowRank<T>& p, int64_t k) {
  const T* gram = p.gram ? p.gram.row(k) : nullptr;
  if (gram == nullptr) {
    T* made = scratch<T>(kGram, p.batch * p.batch);
    gram_of(p.batch, p.inputs, p.x.row(k), p.u.row(k), p.ones, made);
    gram = made;
  }
  const Sum<T> sum{p.out.row(k), p.outputs, p.scale[k], T{1}, p.base.row(k), p.outputs};
  gemm(p.batch, p.outputs, p.batch, Matrix<T>{gram, p.batch, 1},
       Matrix<T>{p.v.row(k), p.outputs, 1}, sum);
  activate(p.act, T{0}, p.out.row(k), p.batch * p.outputs, p.out.row(k));
}

template <typename P>
int threads_for(int64_t clients, int threads, const P& p) {
  return worth(threads, clients, clients * p.batch * p.batch * (p.inputs + p.outputs) / 8);
}

template <typename P>
void each_client(int64_t clients, int threads, const P& p) {
  parallel(threads_for(clients, threads, p), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) one_client(p, k);
  });
}

}  // namespace

template <typename T>
void ghost(int64_t clients, int threads, const Ghost<T>& p) {
  each_client(clients, threads, p);
}

template <typename T>
void joined(int64_t clients, int threads, const Joined<T>& p) {
  each_client(clients, threads, p);
}

template <typename T>
void lowrank(int64_t clients, int threads, const LowRank<T>& p) {
  each_client(clients, threads, p);
}

template <typename T>
void reach(int64_t clients, const Reach<T>& p) {
  for (int64_t k = 0; k < clients; ++k) {
    double squares = 0;
    for (const Slots& slots : p.squares) squares += slots.sum(k);
    const double scale = (p.radii ? p.radii[k] : p.rho) / (std::sqrt(squares) + p.eps);
    p.out[k] = static_cast<T>(scale > p.most ? p.most : scale);
  }
}

template void ghost(int64_t, int, const Ghost<float>&);
template void ghost(int64_t, int, const Ghost<double>&);
template void joined(int64_t, int, const Joined<float>&);
template void joined(int64_t, int, const Joined<double>&);
template void lowrank(int64_t, int, const LowRank<float>&);
template void lowrank(int64_t, int, const LowRank<double>&);
template void reach(int64_t, const Reach<float>&);
template void reach(int64_t, const Reach<double>&);

}  // namespace fedfast
