// The only file that knows pybind11: addresses, strides and sizes from kernels/_native.py become
// fedfast.h's arguments.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "fedfast.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Address = std::uintptr_t;
using Operand = std::pair<Address, int64_t>;                          // address, row stride
using TermList = std::vector<std::tuple<Address, int64_t, Address>>;  // ... and coefficients
using Table = std::tuple<int64_t, Address, Address, Address>;  // L, offset, length, is_weight
using Problem = std::tuple<bool, int64_t, int64_t, int>;       // float64?, K, S, threads

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

template <typename T>
Bank<T> bank(const Operand& operand) {
  return {at<T>(operand.first), operand.second};
}

template <typename T>
Terms<T> terms_of(const TermList& list) {
  Terms<T> terms;
  if (list.empty() || list.size() > kMaxTerms) throw py::value_error("terms: expected 1 to 8");
  for (const auto& [d, stride, c] : list) {
    terms.d[terms.count] = {at<const T>(d), stride};
    terms.c[terms.count++] = at<const T>(c);
  }
  return terms;
}

Segments segments_of(const Table& table) {
  const auto [count, offset, length, is_weight] = table;
  return {count, at<const int32_t>(offset), at<const int32_t>(length), at<const bool>(is_weight)};
}

// Calls run(shape, T{}) for the dtype asked for, without the GIL.
template <typename Run>
void dispatch(const Problem& problem, const Run& run) {
  const auto [wide, clients, size, threads] = problem;
  const Shape shape{clients, size, threads};
  py::gil_scoped_release release;
  wide ? run(shape, double{}) : run(shape, float{});
}

void perturb_any(const Problem& problem, Operand w, const TermList& terms, Address rho,
                 int64_t layers, Address alpha, double eps, std::optional<double> adaptive,
                 Address norm, const Table& segments, Operand out) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    Perturb<T> p;
    p.w = bank<const T>(w);
    p.terms = terms_of<T>(terms);
    p.rho = at<const T>(rho);
    p.layers = layers;
    p.alpha = at<const T>(alpha);
    p.eps = eps;
    p.adaptive = adaptive.has_value();
    p.stretch = static_cast<T>(adaptive.value_or(0));
    p.norm = at<const T>(norm);
    p.segments = segments_of(segments);
    p.out = bank<T>(out);
    perturb(shape, p);
  });
}

void step_any(const Problem& problem, Operand w, const TermList& terms, Address eta, Operand w_ref,
              Address lam, Address weight_decay, Address clip_norm, Address momentum, bool nesterov,
              Operand m, Operand out) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    Step<T> p;
    p.w = bank<const T>(w);
    p.terms = terms_of<T>(terms);
    p.eta = at<const T>(eta);
    p.w_ref = bank<const T>(w_ref);
    p.lam = at<const T>(lam);
    p.weight_decay = at<const T>(weight_decay);
    p.clip_norm = at<const T>(clip_norm);
    p.momentum = at<const T>(momentum);
    p.nesterov = nesterov;
    p.m = bank<T>(m);
    p.out = bank<T>(out);
    step(shape, p);
  });
}

void stats_any(const Problem& problem, Operand x, Operand y, Operand x_ref, Operand y_ref,
               const Table& segments, Address out) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    Stats<T> p;
    p.x = bank<const T>(x);
    p.y = bank<const T>(y);
    p.x_ref = bank<const T>(x_ref);
    p.y_ref = bank<const T>(y_ref);
    p.segments = segments_of(segments);
    p.out = at<double>(out);
    stats(shape, p);
  });
}

void aggregate_any(const Problem& problem, Operand rows, Address weights, Operand base, Address acc,
                   bool first, int rule, const std::tuple<double, double, double, double>& scalars,
                   Address w, Address m, Address v, Address out, Address squares) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    const auto [lr, beta1, beta2, tau] = scalars;
    Aggregate<T> p;
    p.rows = bank<const T>(rows);
    p.weights = at<const T>(weights);
    p.base = bank<const T>(base);
    p.acc = at<double>(acc);
    p.first = first;
    p.server = {static_cast<Rule>(rule), lr, beta1, beta2, tau};
    p.w = at<const T>(w);
    p.m = at<T>(m);
    p.v = at<T>(v);
    p.out = at<T>(out);
    p.squares = at<double>(squares);
    aggregate(shape, p);
  });
}

void mix_any(const Problem& problem, Operand x, Operand y, Address a, Address b, Operand out) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    mix(shape,
        Mix<T>{bank<const T>(x), bank<const T>(y), at<const T>(a), at<const T>(b), bank<T>(out)});
  });
}

void gram_any(const Problem& problem, Operand rows, Operand base, const Table& segments,
              Address out) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    gram(shape,
         Gram<T>{bank<const T>(rows), bank<const T>(base), segments_of(segments), at<double>(out)});
  });
}

void sensitivity_any(const Problem& problem, Operand x, Operand y, const Table& segments,
                     bool normalize, Address out) {
  dispatch(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    sensitivity(shape, Sensitivity<T>{bank<const T>(x), bank<const T>(y), segments_of(segments),
                                      normalize, at<double>(out)});
  });
}

}  // namespace

void bind_images(py::module_& m);     // bindings_images.cpp
void bind_layers(py::module_& m);     // bindings_layers.cpp
void bind_sequences(py::module_& m);  // bindings_sequences.cpp

}  // namespace fedfast

PYBIND11_MODULE(_fedfast, m) {
  m.doc() = "Native CPU voice of fedfast.kernels; call it through kernels/_native.py.";
  m.def("perturb", &fedfast::perturb_any);
  m.def("step", &fedfast::step_any);
  m.def("stats", &fedfast::stats_any);
  m.def("aggregate", &fedfast::aggregate_any);
  m.def("mix", &fedfast::mix_any);
  m.def("gram", &fedfast::gram_any);
  m.def("sensitivity", &fedfast::sensitivity_any);
  fedfast::bind_images(m);
  fedfast::bind_layers(m);
  fedfast::bind_sequences(m);
}
