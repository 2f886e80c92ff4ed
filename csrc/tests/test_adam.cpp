#include "adam.h"
#include "tests/check.h"

namespace fedfast::tests {
namespace {

template <typename T>
void step_of(const Shape& shape, bool decoupled) {
  Rows<T> w(shape, 1, 5), g = Rows<T>::shared(shape, 2), m(shape, 3), v(shape, 4), out(shape, 5);
  Memory<T> t(shape.clients, 6), eta(shape.clients, 7), decay(shape.clients, 8);
  for (T& x : v.memory.values) x = x * x + T(0.5);  // its root and the division are well posed
  for (T& x : t.values) x = 2 + x * x;
  const Rows<T> before_m = m, before_v = v;
  adam(shape, Adam<T>{w.read(), g.read(), m.bank(), v.bank(), t.data(), eta.data(), decay.data(),
                      0.75, 0.875, 0.0625, decoupled, out.bank()});
  for (int64_t k = 0; k < shape.clients; ++k) {
    const double c1 = 1 - std::pow(0.75, t[k]), c2 = 1 - std::pow(0.875, t[k]);
    for (int64_t i = 0; i < shape.size; ++i) {
      const double x = w.at(k, i), d = g.at(k, i) + (decoupled ? 0 : decay[k] * x);
      const double first = 0.75 * before_m.at(k, i) + 0.25 * d;
      const double second = 0.875 * before_v.at(k, i) + 0.125 * d * d;
      const double kept = decoupled ? (1 - eta[k] * decay[k]) * x : x;
      const double length = std::sqrt(second / c2) + 0.0625;
      expect("adam m", m.at(k, i), first, kTolerance<T>);
      expect("adam v", v.at(k, i), second, kTolerance<T>);
      expect("adam", out.at(k, i), kept - eta[k] / c1 * first / length, kTolerance<T>);
    }
  }
}

}  // namespace

void test_adam() {
  for (const bool decoupled : {false, true}) {
    each_shape([&](const Shape& shape) { step_of<float>(shape, decoupled); });
    each_shape([&](const Shape& shape) { step_of<double>(shape, decoupled); });
  }
}

}  // namespace fedfast::tests
