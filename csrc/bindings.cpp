// The only file that knows pybind11: addresses, strides and sizes from kernels/native.py become
// fedfast.h's arguments.
#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "dispatch.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using TermList = std::vector<std::tuple<Address, int64_t, Address>>;  // ... and coefficients
using Table = std::tuple<int64_t, Address, Address, Address>;  // L, offset, length, is_weight
using Rows = std::tuple<bool, int64_t, int64_t, int>;          // float64?, K, S, threads

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

// Calls run(shape, T{}) for the dtype asked for, without the GIL. These operations spread a client
// over threads and are not part of plans.
template <typename Run>
void dispatch_rows(const Rows& rows, const Run& run) {
  if (Plan::noting()) throw py::type_error("this operation cannot be part of a plan");
  const auto [wide, clients, size, threads] = rows;
  const Shape shape{clients, size, threads};
  py::gil_scoped_release release;
  wide ? run(shape, double{}) : run(shape, float{});
}

void perturb_any(const Rows& problem, Operand w, const TermList& terms, Address rho, int64_t layers,
                 Address alpha, double eps, std::optional<double> adaptive, Address norm,
                 const Table& segments, Operand out) {
  dispatch_rows(problem, [&](const Shape& shape, auto zero) {
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

void step_any(const Rows& problem, Operand w, const TermList& terms, Address eta, Operand w_ref,
              Address lam, Address weight_decay, Address clip_norm, Address momentum, bool nesterov,
              Operand m, Operand out) {
  dispatch_rows(problem, [&](const Shape& shape, auto zero) {
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

// The part of rows of S elements that an operation that may be noted works on.
Shape shape_of(const Part& part, int64_t size) { return {part.clients, size, part.threads}; }

Problem without_size(const Rows& rows) {
  return {std::get<0>(rows), std::get<1>(rows), std::get<3>(rows)};
}

void stats_any(const Rows& rows, Operand x, Operand y, Operand x_ref, Operand y_ref,
               const Table& segments, Address out) {
  const int64_t size = std::get<2>(rows), width = std::get<0>(segments) * kStatColumns;
  dispatch(without_size(rows), [=](const Part& part, auto zero) {
    using T = decltype(zero);
    Stats<T> p;
    p.x = bank<const T>(part, x);
    p.y = bank<const T>(part, y);
    p.x_ref = bank<const T>(part, x_ref);
    p.y_ref = bank<const T>(part, y_ref);
    p.segments = segments_of(segments);
    p.out = bank<double>(part, {out, width}).data;
    stats(shape_of(part, size), p);
  });
}

void aggregate_any(const Rows& problem, Operand rows, Address weights, Operand base, Address acc,
                   bool first, int rule, const std::tuple<double, double, double, double>& scalars,
                   Address w, Address m, Address v, Address out, Address squares) {
  dispatch_rows(problem, [&](const Shape& shape, auto zero) {
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

void mix_any(const Rows& rows, Operand x, Operand y, Address a, Address b, Operand out) {
  const int64_t size = std::get<2>(rows);
  dispatch(without_size(rows), [=](const Part& part, auto zero) {
    using T = decltype(zero);
    mix(shape_of(part, size),
        Mix<T>{bank<const T>(part, x), bank<const T>(part, y), at<const T>(part, a),
               at<const T>(part, b), bank<T>(part, out)});
  });
}

void feed_any(const Problem& problem, int64_t steps, int64_t width, Operand rows, Operand count,
              Operand rows_now, Address count_now) {
  if (Plan* plan = Plan::noting()) plan->limit_steps(steps);
  dispatch(problem, [=](const Part& part, auto) {
    feed(part, Feed{width, bank<const int64_t>(part, rows), bank<const int32_t>(part, count),
                    bank<int64_t>(part, rows_now), at<int32_t>(part, count_now)});
  });
}

void tally_any(const Problem& problem, Address losses, Address count, Address total) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    tally(part, Tally<T>{at<const T>(part, losses), at<const int32_t>(part, count),
                         at<double>(part, total)});
  });
}

void begin_noting(Plan& plan) {
  if (Plan::noting()) throw py::type_error("a plan is being noted already");
  Plan::noting() = &plan;
}

// Whichever plan this thread notes: a signal may have kept it from its own end.
void forget_noting() { Plan::noting() = nullptr; }

void end_noting(Plan& plan) {
  if (Plan::noting() == &plan) Plan::noting() = nullptr;
}

// What a run is for, against what was noted: beyond it lies memory of others.
void check_run(const Plan& plan, int64_t clients, int threads, int64_t elements) {
  constexpr int64_t kMost = int64_t{1} << 40;  // elements of a client, and clients: no overflow
  if (clients < 0 || (plan.size() > 0 && clients > plan.clients())) {
    throw py::value_error("clients: expected 0 to " + std::to_string(plan.clients()) +
                          ", as many as were noted; got " + std::to_string(clients));
  }
  if (elements < 0 || elements > kMost) {
    throw py::value_error("elements: expected 0 to 2^40; got " + std::to_string(elements));
  }
  if (threads < 1) throw py::value_error("threads: expected at least 1");
}

bool run_of(const Plan& plan, int64_t clients, int threads, int64_t elements) {
  check_run(plan, clients, threads, elements);
  if (plan.size() == 0) return true;
  py::gil_scoped_release release;
  return plan.run(clients, threads, elements);
}

bool run_steps_of(const Plan& first, const Plan& rest, Address steps, int64_t clients, int threads,
                  int64_t elements) {
  check_run(first, clients, threads, elements);
  check_run(rest, clients, threads, elements);
  const int64_t most = std::min(first.steps(), rest.steps());
  const auto* each = at<const int32_t>(steps);
  for (int64_t k = 0; k < clients; ++k) {
    if (each[k] < 0 || each[k] > most) {
      throw py::value_error("steps: expected 0 to " + std::to_string(most) +
                            ", as many as were fed; got " + std::to_string(each[k]));
    }
  }
  py::gil_scoped_release release;
  return Plan::run_steps(first, rest, each, clients, threads, elements);
}

void bind_plan(py::module_& m) {
  m.def("feed", &feed_any);
  m.def("tally", &tally_any);
  m.def("forget_noting", &forget_noting);
  py::class_<Plan>(m, "Plan")
      .def(py::init<>())
      .def("begin", &begin_noting)
      .def("end", &end_noting)
      .def("run", &run_of);
  m.def("run_steps", &run_steps_of);
}

void gram_any(const Rows& problem, Operand rows, Operand base, const Table& segments, Address out) {
  dispatch_rows(problem, [&](const Shape& shape, auto zero) {
    using T = decltype(zero);
    gram(shape,
         Gram<T>{bank<const T>(rows), bank<const T>(base), segments_of(segments), at<double>(out)});
  });
}

void sensitivity_any(const Rows& problem, Operand x, Operand y, const Table& segments,
                     bool normalize, Address out) {
  dispatch_rows(problem, [&](const Shape& shape, auto zero) {
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
  m.doc() = "Native CPU voice of fedfast.kernels; call it through kernels/native.py.";
  m.def("perturb", &fedfast::perturb_any);
  m.def("step", &fedfast::step_any);
  m.def("stats", &fedfast::stats_any);
  m.def("aggregate", &fedfast::aggregate_any);
  m.def("mix", &fedfast::mix_any);
  m.def("gram", &fedfast::gram_any);
  m.def("sensitivity", &fedfast::sensitivity_any);
  fedfast::bind_plan(m);
  fedfast::bind_images(m);
  fedfast::bind_layers(m);
  fedfast::bind_sequences(m);
}
