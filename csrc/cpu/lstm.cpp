// One thread trains a client's layer. What all steps share is one product over the whole sequence;
// what a step takes from the one before is a product of its own, with the weights turned once.
#include "cpu/add_rows.h"
#include "cpu/functions.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "sequences.h"

namespace fedfast {
namespace {

// Units of one sample at one step: z [4H] becomes the gates; c of the step before, 0 at the first.
template <typename T>
FEDFAST_CLONES void step_forward(int64_t units, T* z, const T* before, T* c, T* h) {
  FEDFAST_INDEPENDENT
  for (int64_t u = 0; u < units; ++u) {
    const T i = sigmoid_of(z[u]), f = sigmoid_of(z[units + u]);
    const T g = tanh_of(z[2 * units + u]), o = sigmoid_of(z[3 * units + u]);
    const T cell = f * before[u] + i * g;
    z[u] = i;
    z[units + u] = f;
    z[2 * units + u] = g;
    z[3 * units + u] = o;
    c[u] = cell;
    h[u] = o * tanh_of(cell);
  }
}

// The gates become the gradients of z; dh comes from above and from the step after, dc from there
// and on to the step before.
template <typename T>
FEDFAST_CLONES void step_backward(int64_t units, T* z, const T* before, const T* c, const T* dout,
                                  const T* dh, T* dc) {
  FEDFAST_INDEPENDENT
  for (int64_t u = 0; u < units; ++u) {
    const T i = z[u], f = z[units + u], g = z[2 * units + u], o = z[3 * units + u];
    const T bent = tanh_of(c[u]), above = dout[u] + dh[u];
    const T cell = dc[u] + above * o * (1 - bent * bent);
    z[u] = cell * g * i * (1 - i);
    z[units + u] = cell * before[u] * f * (1 - f);
    z[2 * units + u] = cell * i * (1 - g * g);
    z[3 * units + u] = above * bent * o * (1 - o);
    dc[u] = cell * f;
  }
}

// Pieces of this thread's memory that gemm leaves alone.
template <typename T>
struct Pieces {
  T* next;

  explicit Pieces(int64_t elements) : next(scratch<T>(2, elements)) {}
  T* zeros(int64_t elements) {
    std::fill_n(next, elements, T{0});
    return take(elements);
  }
  T* take(int64_t elements) {
    T* piece = next;
    next += elements;
    return piece;
  }
};

template <typename T>
void forward(const Lstm<T>& p, int64_t k) {
  const int64_t h = p.hidden, wide = 4 * h, rows = p.batch * p.steps;
  Pieces<T> pieces(h + wide + wide * h + gemm_detail::kSlack);
  const T* none = pieces.zeros(h);
  T* bias = pieces.take(wide);
  T* turned = pieces.take(wide * h);  // [H, 4H]; packing may write a little past its end
  gemm_kernels<T>().pack(p.weight_hh.row(k), h, 1, h, wide, wide, turned);
  T *gates = p.gates.row(k), *cells = p.cells.row(k), *out = p.out.row(k);
  Sum<T> sum{gates, wide};
  if (p.bias_ih) {
    for (int64_t u = 0; u < wide; ++u) bias[u] = p.bias_ih.row(k)[u] + p.bias_hh.row(k)[u];
    sum.beta = 1;
    sum.c0 = bias;
  }
  const Matrix<T> weight_ih{p.weight_ih.row(k), p.inputs, 1};
  gemm(rows, wide, p.inputs, Matrix<T>{p.x.row(k), p.inputs, 1}, weight_ih.transposed(), sum);
  for (int64_t t = 0; t < p.steps; ++t) {
    T* z = gates + t * wide;
    const Sum<T> onto{z, p.steps * wide, T{1}, T{1}, z, p.steps * wide};
    const Matrix<T> before{out + (t - 1) * h, p.steps * h, 1};
    if (t > 0) gemm(p.batch, wide, h, before, Matrix<T>{turned, wide, 1}, onto);
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t at = b * p.steps + t;
      const T* c = t == 0 ? none : cells + (at - 1) * h;
      step_forward(h, gates + at * wide, c, cells + at * h, out + at * h);
    }
  }
}

// Gates become gradients, last step first.
template <typename T>
void through_time(const LstmBackward<T>& p, int64_t k) {
  const int64_t h = p.hidden, wide = 4 * h;
  Pieces<T> pieces((2 * p.batch + 1) * h);
  const T* none = pieces.zeros(h);
  T *dh = pieces.zeros(p.batch * h), *dc = pieces.zeros(p.batch * h);
  T* gates = p.gates.row(k);
  const T *cells = p.cells.row(k), *dout = p.dout.row(k);
  for (int64_t t = p.steps - 1; t >= 0; --t) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t at = b * p.steps + t;
      const T* before = t == 0 ? none : cells + (at - 1) * h;
      step_backward(h, gates + at * wide, before, cells + at * h, dout + at * h, dh + b * h,
                    dc + b * h);
    }
    const Matrix<T> dz{gates + t * wide, p.steps * wide, 1};
    if (t > 0) gemm(p.batch, h, wide, dz, Matrix<T>{p.weight_hh.row(k), h, 1}, Sum<T>{dh, h});
  }
}

template <typename T>
Sum<T> sum_to(const LstmBackward<T>& p, const Folded<T>& to, int64_t k, int64_t columns) {
  Sum<T> sum{to.out.row(k), columns, p.alpha[k], p.beta[k]};
  if (sum.beta != 0) {
    sum.c0 = to.base.row(k);
    sum.c0_row = columns;
  }
  return sum;
}

template <typename T>
void bias_gradient(const LstmBackward<T>& p, const Folded<T>& to, int64_t k) {
  if (!to.out) return;
  const T* base = p.beta[k] == 0 ? nullptr : to.base.row(k);
  add_rows<T>(p.gates.row(k), p.batch * p.steps, 4 * p.hidden, p.alpha[k], p.beta[k], base,
              to.out.row(k));
}

// With z before step 0 set to zero, a step's z and the h before it lie one row apart throughout.
template <typename T>
void recurrent_gradient(const LstmBackward<T>& p, int64_t k) {
  const int64_t h = p.hidden, wide = 4 * h, rows = p.batch * p.steps;
  T* gates = p.gates.row(k);
  for (int64_t b = 0; b < p.batch; ++b) std::fill_n(gates + b * p.steps * wide, wide, T{0});
  gemm(wide, h, rows - 1, Matrix<T>{gates + wide, 1, wide}, Matrix<T>{p.out.row(k), h, 1},
       sum_to(p, p.weight_hh_to, k, h));
}

template <typename T>
void backward(const LstmBackward<T>& p, int64_t k) {
  const int64_t wide = 4 * p.hidden, rows = p.batch * p.steps;
  through_time(p, k);
  const Matrix<T> dz{p.gates.row(k), wide, 1}, x{p.x.row(k), p.inputs, 1};
  if (p.dx) {
    const Matrix<T> weight_ih{p.weight_ih.row(k), p.inputs, 1};
    gemm(rows, p.inputs, wide, dz, weight_ih, Sum<T>{p.dx.row(k), p.inputs});
  }
  if (p.weight_ih_to.out) {
    gemm(wide, p.inputs, rows, dz.transposed(), x, sum_to(p, p.weight_ih_to, k, p.inputs));
  }
  bias_gradient(p, p.bias_ih_to, k);
  bias_gradient(p, p.bias_hh_to, k);
  if (p.weight_hh_to.out) recurrent_gradient(p, k);
}

template <typename P>
int threads_for(int64_t clients, int threads, const P& p) {
  return worth(threads, clients, clients * p.batch * p.steps * p.hidden * (p.inputs + p.hidden));
}

}  // namespace

template <typename T>
void lstm(int64_t clients, int threads, const Lstm<T>& p) {
  parallel(threads_for(clients, threads, p), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) forward(p, k);
  });
}

template <typename T>
void lstm_backward(int64_t clients, int threads, const LstmBackward<T>& p) {
  parallel(threads_for(clients, threads, p), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) backward(p, k);
  });
}

template void lstm(int64_t, int, const Lstm<float>&);
template void lstm(int64_t, int, const Lstm<double>&);
template void lstm_backward(int64_t, int, const LstmBackward<float>&);
template void lstm_backward(int64_t, int, const LstmBackward<double>&);

}  // namespace fedfast
