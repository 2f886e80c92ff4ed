#include "tests/naive.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kTwo = 2;  // clients

// Every way of forming a convolution's products: rows, spots, squares, frames; gathered and
// scattered.
const ConvShape kConvolutions[] = {
    {5, 1, 6, 1, window_of(14, 13, 5, 5, 1, 2)},   {3, 5, 20, 1, window_of(9, 8, 3, 3, 2, 1)},
    {3, 20, 70, 1, window_of(9, 7, 3, 3, 1, 1)},   {4, 24, 33, 1, window_of(10, 11, 5, 5, 1, 0)},
    {2, 16, 32, 1, window_of(9, 13, 4, 7, 1, 1)},  {2, 40, 36, 2, window_of(6, 8, 3, 3, 1, 1)},
    {3, 33, 17, 1, window_of(8, 8, 1, 1, 2, 0)},   {2, 4, 6, 2, window_of(9, 9, 3, 2, 1, 2, 2)},
    {2, 36, 72, 1, window_of(4, 4, 3, 3, 1, 1)},   {9, 17, 33, 1, window_of(14, 12, 5, 5, 1, 2)},
    {8, 48, 34, 2, window_of(15, 18, 5, 6, 1, 2)}, {8, 8, 8, 1, window_of(6, 7, 5, 5, 1, 33)},
};

template <typename T>
struct Layer {
  ConvShape s;
  int64_t in, out_size, weights;
  Rows<T> x, weight, bias, out, dout, given, dx, dweight, dbias;
  Memory<T> alpha{kTwo, 8}, beta{kTwo, 9};

  explicit Layer(const ConvShape& shape)
      : s(shape),
        in(s.batch * s.inputs * s.window.pixels()),
        out_size(s.batch * s.outputs * s.window.spots()),
        weights(s.outputs * s.depth()),
        x(rows_of<T>(kTwo, in, 1)),
        weight(rows_of<T>(kTwo, weights, 2)),
        bias(rows_of<T>(kTwo, s.outputs, 3)),
        out(rows_of<T>(kTwo, out_size, 4)),
        dout(rows_of<T>(kTwo, out_size, 5)),
        given(dout),
        dx(rows_of<T>(kTwo, in, 6)),
        dweight(weight),
        dbias(bias) {}

  void run(int threads) {
    conv(kTwo, threads, Conv<T>{s, Act::relu, x.read(), weight.read(), bias.read(), out.bank()});
    conv_backward(kTwo, threads,
                  ConvBackward<T>{s, Act::relu, x.read(), weight.read(), out.read(), dout.bank(),
                                  dx.bank(), dweight.bank(), dbias.bank(), weight.read(),
                                  bias.read(), alpha.data(), beta.data()});
  }

  // Calls body(o, at in out, at in x, at in weight) for every product of a client.
  template <typename Body>
  void each_product(const Body& body) const {
    const Window& w = s.window;
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t o = 0; o < s.outputs; ++o) {
        each_result(w, [&](int64_t y, int64_t column) {
          const int64_t to = (b * s.outputs + o) * w.spots() + y * w.out_width + column;
          each_pixel(w, y, column, [&](int64_t row, int64_t j, int64_t tap) {
            for (int64_t c = 0; c < s.group_inputs(); ++c) {
              const int64_t channel = o / s.group_outputs() * s.group_inputs() + c;
              const int64_t from = (b * s.inputs + channel) * w.pixels() + row * w.width + j;
              body(o, to, from, (o * s.group_inputs() + c) * w.taps() + tap);
            }
          });
        });
      }
    }
  }

  void check(int64_t k) const {
    std::vector<double> sums(out_size), pulls(in), turns(weights), biases(s.outputs);
    const auto dz = [&](int64_t to) { return out.at(k, to) > 0 ? given.at(k, to) : 0; };
    each_product([&](int64_t, int64_t to, int64_t from, int64_t at) {
      sums[to] += x.at(k, from) * weight.at(k, at);
      pulls[from] += dz(to) * weight.at(k, at);
      turns[at] += dz(to) * x.at(k, from);
    });
    const int64_t spots = s.window.spots(), image = s.outputs * spots;
    for (int64_t i = 0; i < out_size; ++i) {
      const int64_t o = i % image / spots;
      expect("conv out", out.at(k, i), std::max(0.0, sums[i] + bias.at(k, o)), tolerance());
      biases[o] += dz(i);
    }
    for (int64_t i = 0; i < in; ++i) expect("conv dx", dx.at(k, i), pulls[i], tolerance());
    for (int64_t i = 0; i < weights; ++i) {
      expect("conv dw", dweight.at(k, i), beta[k] * weight.at(k, i) + alpha[k] * turns[i],
             tolerance());
    }
    for (int64_t o = 0; o < s.outputs; ++o) {
      expect("conv db", dbias.at(k, o), beta[k] * bias.at(k, o) + alpha[k] * biases[o],
             tolerance());
    }
  }
  // Sums of hundreds of products of either sign, which cancel.
  static constexpr double tolerance() { return 20 * kTolerance<T>; }
};

template <typename T>
void layers() {
  for (const ConvShape& shape : kConvolutions) {
    for (int threads : kThreads) {
      Layer<T> layer(shape);
      layer.run(threads);
      for (int64_t k = 0; k < kTwo; ++k) layer.check(k);
    }
  }
}

}  // namespace

void test_conv() {
  layers<float>();
  layers<double>();
}

}  // namespace fedfast::tests
