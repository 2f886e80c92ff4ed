#include "tests/check.h"

namespace fedfast::tests {
namespace {

// Everything at once: two terms, proximal pull, clipping, weight decay, momentum, in place.
template <typename T>
struct Full {
  Shape shape;
  bool nesterov;
  Rows<T> w, d, m, shared = Rows<T>::shared(shape, 4), before = w, m_before = m;
  Memory<T> eta, lam, decay, clip, momentum, c;

  Full(const Shape& s, bool with_nesterov)
      : shape(s),
        nesterov(with_nesterov),
        w(s, 1, 5),
        d(s, 2, 3),
        m(s, 3),
        eta(s.clients, 5),
        lam(s.clients, 6),
        decay(s.clients, 7),
        clip(s.clients, 8),
        momentum(s.clients, 9),
        c(s.clients, 10) {
    for (T& limit : clip.values) limit = std::abs(limit);
  }

  Step<T> arguments() {
    Step<T> p;
    p.w = w.read(), p.out = w.bank(), p.m = m.bank(), p.w_ref = shared.read();
    p.terms.count = 2;
    p.terms.d[0] = d.read(), p.terms.d[1] = shared.read();
    p.terms.c[0] = p.terms.c[1] = c.data();
    p.eta = eta.data(), p.lam = lam.data(), p.weight_decay = decay.data();
    p.clip_norm = clip.data(), p.momentum = momentum.data(), p.nesterov = nesterov;
    return p;
  }
  double direction(int64_t k, int64_t i) const {
    const double pull = lam[k] * (before.at(k, i) - shared.at(k, i));
    return c[k] * d.at(k, i) + c[k] * shared.at(k, i) + pull;
  }
  double shrink(int64_t k) const {
    double sum = 0;
    for (int64_t i = 0; i < shape.size; ++i) sum += std::pow(direction(k, i), 2);
    return std::min(1.0, clip[k] / (std::sqrt(sum) + 1e-6));
  }
  void check() const {
    for (int64_t k = 0; k < shape.clients; ++k) {
      const double factor = shrink(k);
      for (int64_t i = 0; i < shape.size; ++i) {
        const double x = before.at(k, i), v = factor * direction(k, i) + decay[k] * x;
        const double next = momentum[k] * m_before.at(k, i) + v;
        expect("step m", m.at(k, i), next, 4 * kTolerance<T>);
        const double move = nesterov ? v + momentum[k] * next : next;
        expect("step out", w.at(k, i), x - eta[k] * move, 4 * kTolerance<T>);
      }
    }
  }
};

template <typename T>
void full(const Shape& shape) {
  for (bool nesterov : {false, true}) {
    Full<T> problem(shape, nesterov);
    step(shape, problem.arguments());
    problem.check();
  }
}

template <typename T>
void plain(const Shape& shape) {
  Full<T> problem(shape, false);
  Rows<T> out(shape, 11);
  Step<T> p = problem.arguments();
  p.w_ref = {}, p.clip_norm = nullptr, p.m = {}, p.out = out.bank(), p.terms.count = 1;
  step(shape, p);
  for (int64_t k = 0; k < shape.clients; ++k) {
    for (int64_t i = 0; i < shape.size; ++i) {
      const double x = problem.w.at(k, i);
      const double v = problem.c[k] * problem.d.at(k, i) + problem.decay[k] * x;
      expect("plain step", out.at(k, i), x - problem.eta[k] * v, 4 * kTolerance<T>);
    }
  }
}

}  // namespace

void test_step() {
  each_shape(full<float>);
  each_shape(full<double>);
  each_shape(plain<float>);
  each_shape(plain<double>);
}

}  // namespace fedfast::tests
