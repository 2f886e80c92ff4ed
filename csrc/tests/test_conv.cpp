#include "tests/layers.h"

namespace fedfast::tests {
namespace {

ConvShape conv_shape(int64_t batch, int64_t inputs, int64_t outputs, int64_t groups, Window w) {
  w.out_height = (w.height + 2 * w.ph - w.dh * (w.kh - 1) - 1) / w.sh + 1;
  w.out_width = (w.width + 2 * w.pw - w.dw * (w.kw - 1) - 1) / w.sw + 1;
  return {batch, inputs, outputs, groups, w};
}

// height, width, out, out, kernel, stride, padding, dilation
const ConvShape kConvs[] = {
    conv_shape(1, 1, 1, 1, {1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1}),
    conv_shape(2, 1, 5, 1, {9, 7, 0, 0, 5, 5, 1, 1, 2, 2, 1, 1}),
    conv_shape(3, 3, 17, 1, {8, 11, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1}),
    conv_shape(2, 6, 4, 2, {9, 10, 0, 0, 3, 2, 2, 3, 1, 0, 1, 1}),
    conv_shape(1, 4, 4, 4, {7, 9, 0, 0, 3, 3, 1, 2, 2, 3, 2, 1}),
    conv_shape(2, 18, 20, 1, {6, 5, 0, 0, 5, 5, 1, 1, 0, 0, 1, 1}),
    conv_shape(2, 5, 33, 1, {6, 6, 0, 0, 1, 1, 2, 2, 0, 0, 1, 1}),
};

// Calls term(x place, weight place, out place) for every product of one client's convolution.
template <typename Term>
void each_product(const ConvShape& s, const Term& term) {
  const Window& w = s.window;
  const int64_t own = s.group_inputs();
  for (int64_t n = 0; n < s.batch * s.outputs * w.spots() * s.depth(); ++n) {
    const int64_t tap = n % w.taps(), c = n / w.taps() % own, spot = n / s.depth() % w.spots();
    const int64_t o = n / s.depth() / w.spots() % s.outputs;
    const int64_t b = n / s.depth() / w.spots() / s.outputs;
    const int64_t y = spot / w.out_width * w.sh - w.ph + tap / w.kw * w.dh;
    const int64_t x = spot % w.out_width * w.sw - w.pw + tap % w.kw * w.dw;
    if (y < 0 || y >= w.height || x < 0 || x >= w.width) continue;
    const int64_t channel = o / s.group_outputs() * own + c;
    term(((b * s.inputs + channel) * w.height + y) * w.width + x, (o * own + c) * w.taps() + tap,
         (b * s.outputs + o) * w.spots() + spot);
  }
}

// Operands of one problem and what naive loops make of them.
template <typename T>
struct Problem {
  ConvShape s;
  int64_t clients;
  int threads;
  int64_t in = s.batch * s.inputs * s.window.pixels(), w = s.outputs * s.depth();
  int64_t out = s.batch * s.outputs * s.window.spots(), spots = s.window.spots();
  Rows<T> x = block<T>(clients, in, 1), weight = block<T>(clients, w, 2);
  Rows<T> bias = block<T>(clients, s.outputs, 3), y = block<T>(clients, out, 4);
  Rows<T> dout = block<T>(clients, out, 5), dx = block<T>(clients, in, 6);
  Rows<T> dweight = block<T>(clients, w, 7), dbias = block<T>(clients, s.outputs, 8);

  int64_t output_of(int64_t i) const { return i / spots % s.outputs; }

  void forward() {
    conv(clients, threads, Conv<T>{s, Act::relu, x.read(), weight.read(), bias.read(), y.bank()});
    for (int64_t k = 0; k < clients; ++k) {
      std::vector<double> sum(out);
      for (int64_t i = 0; i < out; ++i) sum[i] = bias.at(k, output_of(i));
      each_product(
          s, [&](int64_t i, int64_t j, int64_t o) { sum[o] += x.at(k, i) * weight.at(k, j); });
      for (int64_t i = 0; i < out; ++i) {
        expect("conv", y.at(k, i), std::max(sum[i], 0.0), kLayer<T>);
      }
    }
  }

  void backward() {
    const Rows<T> before = dout;
    Memory<T> alpha(clients, 9), beta(clients, 10);
    conv_backward(clients, threads,
                  ConvBackward<T>{s, Act::relu, x.read(), weight.read(), y.read(), dout.bank(),
                                  dx.bank(), dweight.bank(), dbias.bank(), weight.read(),
                                  bias.read(), alpha.data(), beta.data()});
    for (int64_t k = 0; k < clients; ++k) {
      std::vector<double> to_x(in), to_w(w), to_b(s.outputs), pulled(out);
      for (int64_t i = 0; i < out; ++i) {
        pulled[i] = y.at(k, i) > 0 ? before.at(k, i) : 0;
        to_b[output_of(i)] += pulled[i];
      }
      each_product(s, [&](int64_t i, int64_t j, int64_t o) {
        to_x[i] += pulled[o] * weight.at(k, j);
        to_w[j] += pulled[o] * x.at(k, i);
      });
      for (int64_t i = 0; i < in; ++i) expect("conv dx", dx.at(k, i), to_x[i], kLayer<T>);
      for (int64_t i = 0; i < w; ++i) {
        const double folded = beta[k] * weight.at(k, i) + alpha[k] * to_w[i];
        expect("conv dweight", dweight.at(k, i), folded, kLayer<T>);
      }
      for (int64_t i = 0; i < s.outputs; ++i) {
        const double folded = beta[k] * bias.at(k, i) + alpha[k] * to_b[i];
        expect("conv dbias", dbias.at(k, i), folded, kLayer<T>);
      }
    }
  }
};

template <typename T>
void both(const ConvShape& s, int64_t clients, int threads) {
  Problem<T> problem{s, clients, threads};
  problem.forward();
  problem.backward();
}

}  // namespace

void test_conv() {
  for (const ConvShape& s : kConvs) {
    each_crowd([&](int64_t clients, int threads) {
      both<float>(s, clients, threads), both<double>(s, clients, threads);
    });
  }
}

}  // namespace fedfast::tests
