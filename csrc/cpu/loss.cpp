#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/functions.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "layers.h"

namespace fedfast {
namespace {

template <typename T>
FEDFAST_CLONES void exp_all(T* x, int64_t n) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) x[i] = exp_down(x[i]);
}

template <typename T>
bool in_range(const CrossEntropy<T>& p, int64_t k) {
  const int64_t count = p.count[k];
  const auto inside = [&](int64_t t) { return 0 <= t && t < p.classes; };
  return 0 <= count && count <= p.batch &&
         std::all_of(p.targets.row(k), p.targets.row(k) + count, inside);
}

// d[b, c] = logits - their row's largest; returns sum_b of -d[b, target].
template <typename T>
double centre(const T* logits, const int64_t* targets, int64_t rows, int64_t classes, T* d) {
  double sum = 0;
  for (int64_t b = 0; b < rows; ++b, logits += classes, d += classes) {
    const T top = largest(logits, classes);
    for (int64_t c = 0; c < classes; ++c) d[c] = logits[c] - top;
    sum -= d[targets[b]];
  }
  return sum;
}

// From e = exp(d): d = (e / sum_c e - onehot) / rows; returns sum_b of log sum_c e.
template <typename T>
double normalise(const int64_t* targets, int64_t rows, int64_t classes, T* d) {
  double logs = 0;
  for (int64_t b = 0; b < rows; ++b, d += classes) {
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += d[c];
    logs += std::log(sum);
    const double target = d[targets[b]];  // in float64: next to 1 a float32 would cancel
    const T scale = static_cast<T>(1 / (sum * rows));
    for (int64_t c = 0; c < classes; ++c) d[c] *= scale;
    d[targets[b]] = static_cast<T>((target / sum - 1) / rows);
  }
  return logs;
}

template <typename T>
void one_client(const CrossEntropy<T>& p, int64_t k) {
  const int64_t rows = p.count[k], *targets = p.targets.row(k);
  T* d = p.dlogits.row(k);
  double loss = centre(p.logits.row(k), targets, rows, p.classes, d);
  exp_all(d, rows * p.classes);
  loss += normalise(targets, rows, p.classes, d);
  p.losses[k] = static_cast<T>(loss / rows);  // NaN without rows, as in torch
  std::fill(d + rows * p.classes, d + p.batch * p.classes, T{0});
}

}  // namespace

template <typename T>
bool cross_entropy(int64_t clients, int threads, const CrossEntropy<T>& p) {
  std::atomic<bool> fine{true};
  const int64_t elements = clients * p.batch * p.classes;
  parallel(worth(threads, clients, elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) in_range(p, k) ? one_client(p, k) : fine.store(false);
  });
  return fine;
}

template bool cross_entropy(int64_t, int, const CrossEntropy<float>&);
template bool cross_entropy(int64_t, int, const CrossEntropy<double>&);

}  // namespace fedfast
