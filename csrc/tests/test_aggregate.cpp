#include "tests/check.h"

namespace fedfast::tests {
namespace {

constexpr double kSums = 1e-11;  // the accumulator is double, whatever the rows are

template <typename T>
struct Round {
  Shape shape;
  Rows<T> rows, base;
  Memory<T> weights, w, m, v, out, m_before = m, v_before = v;
  std::vector<double> acc, squares;
  std::vector<int32_t> order;

  explicit Round(const Shape& s)
      : shape(s),
        rows(s, 1, 5),
        base(s, 2, 1),
        weights(s.clients, 3),
        w(s.size, 4),
        m(s.size, 5),
        v(s.size, 6),
        out(s.size, 7),
        acc(s.size),
        squares(s.clients + 1) {
    for (T& value : v.values) value = std::abs(value) + 1;
    v_before = v;
    // Leaves of one client: as many nodes wait as k has bits, and client k begins one above them.
    order.push_back(0);
    for (int64_t k = 0; k < s.clients; ++k) order.push_back(-1 - __builtin_popcountll(k));
    order.push_back(1);
  }

  void run(Rule rule) {
    Aggregate<T> p;
    p.rows = rows.read(), p.base = base.read(), p.weights = weights.data();
    p.acc = acc.data(), p.order = order.data(), p.squares = squares.data();
    p.server = {rule, 0.5, 0.9, 0.99, 1e-3};
    p.w = w.data(), p.m = m.data(), p.v = v.data(), p.out = out.data();
    aggregate(shape, p);
  }
  double mean(int64_t i) const {
    double sum = 0;
    for (int64_t k = 0; k < shape.clients; ++k) {
      sum += weights[k] * (rows.at(k, i) - base.at(k, i));
    }
    return sum;
  }
  double move(Rule rule, int64_t i) const {
    const double d = mean(i), square = d * d, old = v_before[i];
    if (rule == Rule::average) return 0.5 * d;
    if (rule == Rule::momentum) return 0.5 * (0.9 * m_before[i] + d);
    const double sign = old > square ? 1 : -1;
    const double second = rule == Rule::adagrad ? old + square
                          : rule == Rule::adam  ? 0.99 * old + 0.01 * square
                                                : old - 0.01 * square * sign;
    return 0.5 * (0.9 * m_before[i] + 0.1 * d) / (std::sqrt(second) + 1e-3);
  }
  void check(Rule rule) const {
    for (int64_t k = 0; k < shape.clients; ++k) {
      double sum = 0;
      for (int64_t i = 0; i < shape.size; ++i) sum += std::pow(rows.at(k, i) - base.at(k, i), 2);
      expect("squares", squares[k], sum, kSums);
    }
    for (int64_t i = 0; i < shape.size; ++i) {
      expect("acc", acc[i], mean(i), kSums);
      if (rule != Rule::none) expect("out", out[i], w[i] + move(rule, i), 4 * kTolerance<T>);
    }
  }
};

template <typename T>
void rules(const Shape& shape) {
  for (Rule rule :
       {Rule::none, Rule::average, Rule::momentum, Rule::adam, Rule::yogi, Rule::adagrad}) {
    Round<T> round(shape);
    round.run(rule);
    round.check(rule);
  }
}

}  // namespace

void test_aggregate() {
  each_shape(rules<float>);
  each_shape(rules<double>);
}

}  // namespace fedfast::tests
