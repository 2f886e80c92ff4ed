// One thread trains a client's layer: y = x W^T, dx = dy W, dW = dy^T x, each a product of gemm.h.
#include "cpu/activation.h"
#include "cpu/add_rows.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"
#include "row_work.h"

namespace fedfast {
namespace {

template <typename T>
void forward(const LinearForward<T>& p, int64_t k) {
  const Matrix<T> x{p.x.row(k), p.inputs, 1}, weight{p.weight.row(k), p.inputs, 1};
  Sum<T> sum{p.out.row(k), p.outputs};
  if (p.bias) {  // the bias is what the product is added to
    sum.beta = 1;
    sum.c0 = p.bias.row(k);
  }
  gemm(p.batch, p.outputs, p.inputs, x, weight.transposed(), sum, p.width);
  activate(p.act, T{0}, p.out.row(k), p.batch * p.outputs, p.out.row(k));
}

// dweight of some outputs; dout holds act'(out) by now.
template <typename T>
void fold(const LinearBackward<T>& p, const Matrix<T>& x, const Matrix<T>& dout, int64_t k,
          const Range& outputs) {
  Sum<T> sum{p.dweight.row(k), p.inputs, p.alpha[k], p.beta[k]};
  if (sum.beta != 0) {
    sum.c0 = p.base_weight.row(k);
    sum.c0_row = p.inputs;
  }
  Addend<T> formed;
  if (p.add_weight) {
    sum.gamma = p.gamma[k];
    sum.d = p.add_weight.row(k);
    sum.d_row = p.inputs;
    if (row_work().formed(sum.d, formed)) {
      sum.d = formed.base;
      sum.formed = &formed;
    }
  }
  sum.reports = sum.beta != 0;  // else it may be a gradient
  gemm(outputs.size(), p.inputs, p.batch, dout.columns(outputs.start).transposed(), x,
       sum.at(outputs.start, 0), p.outputs);
}

// dx and dweight, of as many outputs at a time as leaves the weights that dx reads in the second
// cache until they are written. dx is added up in pieces of the same length otherwise.
template <typename T>
void products(const LinearBackward<T>& p, const Matrix<T>& dout, int64_t k) {
  const Matrix<T> x{p.x.row(k), p.inputs, 1}, weight{p.weight.row(k), p.inputs, 1};
  const Sum<T> dx{p.dx ? p.dx.row(k) : nullptr, p.inputs};
  Range{0, p.outputs}.each(gemm_depth<T>(std::max(p.batch, p.width)),
                           [&](int64_t o, int64_t count) {
                             if (p.dx) {
                               gemm(p.batch, p.inputs, count, dout.columns(o), weight.rows(o),
                                    o == 0 ? dx : dx.onto(), p.width);
                             }
                             if (p.dweight) fold(p, x, dout, k, {o, o + count});
                           });
}

template <typename T>
void backward(const LinearBackward<T>& p, int64_t k) {
  const T* out = p.out.row(k);
  const Matrix<T> dout{p.dout.row(k), p.outputs, 1};
  differentiate(p.act, T{0}, out, out, dout.data, p.batch * p.outputs, p.dout.row(k));
  products(p, dout, k);
  if (p.dbias) {
    const T* base = p.beta[k] == 0 ? nullptr : p.base_bias.row(k);
    add_rows(dout.data, p.batch, p.outputs, p.alpha[k], p.beta[k], base, p.dbias.row(k));
    if (p.add_bias) {
      const T* add = p.add_bias.row(k);
      T* to = p.dbias.row(k);
      if (Addend<T> formed; row_work().formed(add, formed)) {
        for (int64_t o = 0; o < p.outputs; ++o) to[o] += p.gamma[k] * formed[o];
      } else {
        for (int64_t o = 0; o < p.outputs; ++o) to[o] += p.gamma[k] * add[o];
      }
    }
  }
}

template <typename P>
int threads_for(int64_t clients, int threads, const P& p) {
  return worth(threads, clients, clients * p.batch * p.inputs * p.outputs / 8);
}

}  // namespace

template <typename T>
void linear(int64_t clients, int threads, const LinearForward<T>& p) {
  parallel(threads_for(clients, threads, p), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) forward(p, k);
  });
}

template <typename T>
void linear_backward(int64_t clients, int threads, const LinearBackward<T>& p) {
  parallel(threads_for(clients, threads, p), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) backward(p, k);
  });
}

template void linear(int64_t, int, const LinearForward<float>&);
template void linear(int64_t, int, const LinearForward<double>&);
template void linear_backward(int64_t, int, const LinearBackward<float>&);
template void linear_backward(int64_t, int, const LinearBackward<double>&);

}  // namespace fedfast
