#include "tests/check.h"

namespace fedfast::tests {
namespace {

// ASAM with one radius per layer, two terms, padding between the layers.
template <typename T>
struct Layered {
  Shape shape;
  int32_t offset[2], length[2];
  bool is_weight[2] = {true, false};
  Rows<T> w, d, out, shared = Rows<T>::shared(shape, 3);
  Memory<T> rho, c0, c1, alpha;

  explicit Layered(const Shape& s)
      : shape(s),
        w(s, 1, 5),
        d(s, 2, 3),
        out(s, 4),
        rho(2 * s.clients, 5),
        c0(s.clients, 6),
        c1(s.clients, 7),
        alpha(s.clients, 8) {
    const int32_t half = s.size / 2;
    offset[0] = 0, length[0] = half;
    offset[1] = std::min<int32_t>(half + 1, s.size), length[1] = s.size - offset[1];
  }

  int layer(int64_t i) const {
    for (int l = 0; l < 2; ++l) {
      if (i >= offset[l] && i < offset[l] + length[l]) return l;
    }
    return -1;
  }
  double stretch(int64_t k, int64_t i) const {
    return layer(i) == 0 ? std::abs(w.at(k, i)) + 0.5 : 1.0;
  }
  double direction(int64_t k, int64_t i) const {
    return c0[k] * d.at(k, i) + c1[k] * shared.at(k, i);
  }
  double norm(int64_t k) const {
    double sum = 0;
    for (int64_t i = 0; i < shape.size; ++i) sum += std::pow(stretch(k, i) * direction(k, i), 2);
    return std::sqrt(sum);
  }
  Perturb<T> arguments() {
    Perturb<T> p;
    p.w = w.read(), p.out = out.bank();
    p.terms.count = 2;
    p.terms.d[0] = d.read(), p.terms.d[1] = shared.read();
    p.terms.c[0] = c0.data(), p.terms.c[1] = c1.data();
    p.rho = rho.data(), p.layers = 2, p.alpha = alpha.data(), p.eps = 0.1;
    p.adaptive = T(0.5);
    p.segments = {2, offset, length, is_weight};
    return p;
  }
  void check() const {
    for (int64_t k = 0; k < shape.clients; ++k) {
      const double length = norm(k);
      for (int64_t i = 0; i < shape.size; ++i) {
        const int l = layer(i);
        const double scale = l < 0 ? 0 : rho[2 * k + l] / (length + 0.1) - alpha[k];
        const double t = stretch(k, i);
        expect("perturb", out.at(k, i), w.at(k, i) + scale * t * t * direction(k, i),
               4 * kTolerance<T>);
      }
    }
  }
};

template <typename T>
void layered(const Shape& shape) {
  Layered<T> problem(shape);
  perturb(shape, problem.arguments());
  problem.check();
}

}  // namespace

void test_perturb() {
  each_shape(layered<float>);
  each_shape(layered<double>);
}

}  // namespace fedfast::tests
