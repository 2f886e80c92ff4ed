#include <algorithm>
#include <cmath>

#include "cpu/functions.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "sequences.h"

namespace fedfast {
namespace {

template <typename T>
FEDFAST_CLONES void exp_less(const T* x, T top, int64_t n, T* e) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) e[i] = exp_down(x[i] - top);
}

// dx = dout - exp(out) sum; log-probabilities are never above 0.
template <typename T>
FEDFAST_CLONES void less_share(const T* out, const T* dout, T sum, int64_t n, T* dx) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) dx[i] = dout[i] - exp_down(out[i]) * sum;
}

constexpr int64_t kPiece = 256;  // exponentials held at a time, so that out may be x

template <typename T>
void one_row(const T* x, int64_t classes, T* out) {
  const T top = largest(x, classes);
  T e[kPiece];
  double sum = 0;
  for (int64_t c = 0; c < classes; c += kPiece) {
    const int64_t n = std::min(kPiece, classes - c);
    exp_less(x + c, top, n, e);
    sum += sum_from(0, e, n);
  }
  const T log_sum = static_cast<T>(std::log(sum));
  for (int64_t c = 0; c < classes; ++c) out[c] = (x[c] - top) - log_sum;
}

}  // namespace

template <typename T>
void log_softmax(int64_t clients, int threads, const LogSoftmax<T>& p) {
  const int64_t elements = clients * p.rows * p.classes;
  parallel(worth(threads, clients, elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      for (int64_t r = 0; r < p.rows; ++r) {
        one_row(p.x.row(k) + r * p.classes, p.classes, p.out.row(k) + r * p.classes);
      }
    }
  });
}

template <typename T>
void log_softmax_backward(int64_t clients, int threads, const LogSoftmaxBackward<T>& p) {
  const int64_t n = p.classes, elements = clients * p.rows * n;
  parallel(worth(threads, clients, elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      for (int64_t r = 0; r < p.rows; ++r) {
        const T* dout = p.dout.row(k) + r * n;
        const T sum = static_cast<T>(sum_from(0, dout, n));
        less_share(p.out.row(k) + r * n, dout, sum, n, p.dx.row(k) + r * n);
      }
    }
  });
}

template void log_softmax(int64_t, int, const LogSoftmax<float>&);
template void log_softmax(int64_t, int, const LogSoftmax<double>&);
template void log_softmax_backward(int64_t, int, const LogSoftmaxBackward<float>&);
template void log_softmax_backward(int64_t, int, const LogSoftmaxBackward<double>&);

}  // namespace fedfast
