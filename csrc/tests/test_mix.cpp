#include "tests/check.h"

namespace fedfast::tests {
namespace {

template <typename T>
void banks(const Shape& shape) {
  Rows<T> x(shape, 1, 5), y = Rows<T>::shared(shape, 2), out(shape, 3);
  Memory<T> a(shape.clients, 4), b(shape.clients, 5);
  mix(shape, Mix<T>{x.read(), y.read(), a.data(), b.data(), out.bank()});
  for (int64_t k = 0; k < shape.clients; ++k) {
    for (int64_t i = 0; i < shape.size; ++i) {
      expect("mix", out.at(k, i), a[k] * x.at(k, i) + b[k] * y.at(k, i), kTolerance<T>);
    }
  }
}

}  // namespace

void test_mix() {
  each_shape(banks<float>);
  each_shape(banks<double>);
}

}  // namespace fedfast::tests
