#include "tests/layers.h"

namespace fedfast::tests {
namespace {

struct Sizes {
  int64_t batch, inputs, outputs;
};

constexpr Sizes kLinear[] = {{1, 1, 1},     {3, 5, 2},      {1, 70, 33},   {7, 33, 17},
                             {17, 129, 20}, {48, 1030, 29}, {50, 70, 130}, {64, 40, 17}};

template <typename T>
void forward(const Sizes& s, int64_t clients, int threads) {
  Rows<T> x = block<T>(clients, s.batch * s.inputs, 1);
  Rows<T> weight = block<T>(clients, s.outputs * s.inputs, 2);
  Rows<T> bias = block<T>(clients, s.outputs, 3), out = block<T>(clients, s.batch * s.outputs, 4);
  LinearForward<T> p{s.batch,       s.inputs,    s.outputs, 0,         x.read(),
                     weight.read(), bias.read(), Act::relu, out.bank()};
  linear(clients, threads, p);
  expect_block("linear", out, clients, s.batch * s.outputs, [&](int64_t k, int64_t i) {
    const int64_t b = i / s.outputs, o = i % s.outputs;
    double sum = bias.at(k, o);
    for (int64_t j = 0; j < s.inputs; ++j) {
      sum += x.at(k, b * s.inputs + j) * weight.at(k, o * s.inputs + j);
    }
    return std::max(sum, 0.0);
  });
}

// `pulled(k, b, o)` is dout after the activation's derivative.
template <typename T>
void backward(const Sizes& s, int64_t clients, int threads) {
  const int64_t n = s.batch * s.outputs, size = s.outputs * s.inputs;
  Rows<T> x = block<T>(clients, s.batch * s.inputs, 1),
          dx = block<T>(clients, s.batch * s.inputs, 2);
  Rows<T> weight = block<T>(clients, size, 3), dweight = block<T>(clients, size, 4);
  Rows<T> out = block<T>(clients, n, 5), dout = block<T>(clients, n, 6), before = dout;
  Rows<T> base = block<T>(clients, s.outputs, 7), dbias = block<T>(clients, s.outputs, 8);
  Rows<T> more = block<T>(clients, size, 11), other = block<T>(clients, s.outputs, 12);
  Memory<T> alpha(clients, 9), beta(clients, 10), gamma(clients, 13);
  linear_backward(clients, threads,
                  LinearBackward<T>{s.batch, s.inputs, s.outputs, 0, x.read(), weight.read(),
                                    out.read(), dout.bank(), Act::relu, alpha.data(), beta.data(),
                                    weight.read(), base.read(), dx.bank(), dweight.bank(),
                                    dbias.bank(), gamma.data(), more.read(), other.read()});
  const auto pulled = [&](int64_t k, int64_t b, int64_t o) {
    return out.at(k, b * s.outputs + o) > 0 ? before.at(k, b * s.outputs + o) : 0.0;
  };
  expect_block("linear dx", dx, clients, s.batch * s.inputs, [&](int64_t k, int64_t i) {
    double sum = 0;
    for (int64_t o = 0; o < s.outputs; ++o) {
      sum += pulled(k, i / s.inputs, o) * weight.at(k, o * s.inputs + i % s.inputs);
    }
    return sum;
  });
  expect_block("linear dweight", dweight, clients, size, [&](int64_t k, int64_t i) {
    double sum = 0;
    for (int64_t b = 0; b < s.batch; ++b) {
      sum += pulled(k, b, i / s.inputs) * x.at(k, b * s.inputs + i % s.inputs);
    }
    return beta[k] * weight.at(k, i) + alpha[k] * sum + gamma[k] * more.at(k, i);
  });
  expect_block("linear dbias", dbias, clients, s.outputs, [&](int64_t k, int64_t o) {
    double sum = 0;
    for (int64_t b = 0; b < s.batch; ++b) sum += pulled(k, b, o);
    return beta[k] * base.at(k, o) + alpha[k] * sum + gamma[k] * other.at(k, o);
  });
}

}  // namespace

void test_linear() {
  for (const Sizes& s : kLinear) {
    each_crowd([&](int64_t clients, int threads) {
      forward<float>(s, clients, threads), forward<double>(s, clients, threads);
      backward<float>(s, clients, threads), backward<double>(s, clients, threads);
    });
  }
}

}  // namespace fedfast::tests
