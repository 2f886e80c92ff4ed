// The module `fedfast._fedfast`: operations on rows of S elements, and plans.
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>

#include "adam.h"
#include "bind.h"
#include "fields.h"

namespace py = pybind11;

namespace fedfast {
namespace {

template <typename P>
Shape shape_of(const Part& part, const Rows<P>& p) {
  return {part.clients, p.size, part.threads};
}

template <typename T>
struct PerturbRows : Rows<Perturb<T>> {
  Bank<const T> radii;
};
template <typename T>
using StepRows = Rows<Step<T>>;
template <typename T>
struct StatsRows : Rows<Stats<T>> {
  Bank<double> sums;
};
template <typename T>
using AggregateRows = Rows<Aggregate<T>>;
template <typename T>
using MixRows = Rows<Mix<T>>;
template <typename T>
using GramRows = Rows<Gram<T>>;
template <typename T>
using SensitivityRows = Rows<Sensitivity<T>>;
template <typename T>
using AdamRows = Rows<Adam<T>>;
template <typename>
using FeedOf = Feed;

void bind_rows(py::module_& m) {
  bind<PerturbRows>(
      m, "perturb",
      FIELDS(PerturbRows, field("S", &P::size), field("R", &P::layers), F(w), F(terms),
             field("rho", &P::radii), F(alpha), F(eps), F(adaptive), F(norm), F(segments), F(out)),
      [](const Part& part, auto& p) {
        p.rho = p.radii.data;
        perturb(shape_of(part, p), p);
      });
  bind<StepRows>(m, "step",
                 FIELDS(StepRows, field("S", &P::size), F(w), F(terms), F(eta), F(w_ref), F(lam),
                        F(weight_decay), F(clip_norm), F(momentum), F(nesterov), F(m), F(out)),
                 [](const Part& part, const auto& p) {
                   if (part.describe) return describe(p.size, p, *part.describe);
                   step(shape_of(part, p), p);
                   return true;
                 });
  bind<StatsRows>(m, "stats",
                  FIELDS(StatsRows, field("S", &P::size), F(x), F(y), F(x_ref), F(y_ref),
                         F(segments), field("out", &P::sums)),
                  [](const Part& part, auto& p) {
                    p.out = p.sums.data;
                    stats(shape_of(part, p), p);
                  });
  bind<AggregateRows>(
      m, "aggregate",
      FIELDS(AggregateRows, field("S", &P::size), field("client_rows", &P::rows), F(weights),
             F(base), F(acc), F(nodes), F(order), F(server), F(w), F(m), F(v), F(out), F(squares)),
      [](const Part& part, const auto& p) { aggregate(shape_of(part, p), p); }, false);
  bind<MixRows>(m, "mix", FIELDS(MixRows, field("S", &P::size), F(x), F(y), F(a), F(b), F(out)),
                [](const Part& part, const auto& p) { mix(shape_of(part, p), p); });
  bind<GramRows>(
      m, "gram", FIELDS(GramRows, field("S", &P::size), F(rows), F(base), F(segments), F(out)),
      [](const Part& part, const auto& p) { gram(shape_of(part, p), p); }, false);
  bind<SensitivityRows>(
      m, "sensitivity",
      FIELDS(SensitivityRows, field("S", &P::size), F(x), F(y), F(segments), F(normalize), F(out)),
      [](const Part& part, const auto& p) { sensitivity(shape_of(part, p), p); }, false);
  bind<AdamRows>(m, "adam",
                 FIELDS(AdamRows, field("S", &P::size), F(w), F(g), F(m), F(v), F(t), F(eta),
                        F(weight_decay), F(beta1), F(beta2), F(eps), F(decoupled), F(out)),
                 [](const Part& part, const auto& p) { adam(shape_of(part, p), p); });
  bind<FeedOf>(
      m, "feed",
      FIELDS(FeedOf, field("R", &P::lines), field("B", &P::width), shared("rows", &P::rows),
             shared("count", &P::count), F(rows_now), F(count_now)),
      [](const Part& part, const auto& p) { feed(part, p); });
  bind<Turn>(m, "turn", FIELDS(Turn, field("T", &P::steps), shared("table", &P::table), F(now)),
             [](const Part& part, const auto& p) { turn(part, p); });
  bind<Tally>(m, "tally", FIELDS(Tally, F(losses), F(count), F(total)),
              [](const Part& part, const auto& p) { tally(part, p); });
}

void begin_recording(Plan& plan) {
  if (Plan::recording()) throw py::type_error("a plan is being recorded already");
  Plan::recording() = &plan;
}

// Whichever plan this thread records: a signal may have kept it from its own end.
void forget_recording() { Plan::recording() = nullptr; }

void end_recording(Plan& plan) {
  if (Plan::recording() == &plan) Plan::recording() = nullptr;
}

// What a run is for, against what was recorded: beyond it lies memory of others.
void check_run(const Plan& plan, int64_t clients, int threads, int64_t elements) {
  constexpr int64_t kMost = int64_t{1} << 40;  // elements of a client, and clients: no overflow
  if (clients < 0 || (plan.size() > 0 && clients > plan.clients())) {
    throw py::value_error("clients: expected 0 to " + std::to_string(plan.clients()) +
                          ", as many as were recorded; got " + std::to_string(clients));
  }
  if (elements < 0 || elements > kMost) {
    throw py::value_error("elements: expected 0 to 2^40; got " + std::to_string(elements));
  }
  if (threads < 1) throw py::value_error("threads: expected at least 1");
  if (plan.whole()) throw py::type_error("a plan of whole calls is run by run_whole alone");
}

const int32_t* counts_at(std::uintptr_t address, int64_t width) {
  if (width < 0) throw py::value_error("width: expected 0 or more");
  return reinterpret_cast<const int32_t*>(address);
}

// count: the address of each client's, or 0.
bool run_of(const Plan& plan, int64_t clients, int threads, int64_t elements, std::uintptr_t count,
            int64_t width) {
  check_run(plan, clients, threads, elements);
  const int32_t* counts = counts_at(count, width);
  if (plan.size() == 0) return true;
  py::gil_scoped_release release;
  const profile::Run run;
  return plan.run(clients, threads, elements, counts, width);
}

void check_lines(const Lines& lines, int64_t most) {
  int64_t going = std::numeric_limits<int64_t>::max();
  if (lines.steps < 0 || lines.offsets[0] != 0) throw py::value_error("offsets: expected 0 first");
  for (int64_t s = 0; s < lines.steps; ++s) {
    const int64_t next = lines.offsets[s + 1] - lines.offsets[s];
    if (next < 1 || next > going) {
      throw py::value_error(
          "offsets: expected some clients at every step, and never more than at "
          "the one before; got " +
          std::to_string(next) + " at step " + std::to_string(s));
    }
    going = next;
  }
  if (lines.offsets[lines.steps] > most) {
    throw py::value_error("offsets: expected at most " + std::to_string(most) +
                          " batches, as many as were fed; got " +
                          std::to_string(lines.offsets[lines.steps]));
  }
}

// Soon's fields, addresses as numbers.
using SoonAt =
    std::tuple<std::uintptr_t, int64_t, std::uintptr_t, std::uintptr_t, int64_t, int64_t>;

Soon soon_of(const SoonAt& at) {
  const auto [bank, bytes, rows, models, stride, written] = at;
  return {reinterpret_cast<const char*>(bank), bytes,  reinterpret_cast<const int64_t*>(rows),
          reinterpret_cast<char*>(models),     stride, written};
}

// Models' fields: address, stride and bytes; address 0: none.
using ModelsAt = std::tuple<std::uintptr_t, int64_t, int64_t>;

Models models_of(const ModelsAt& at) {
  const auto [data, stride, bytes] = at;
  return {reinterpret_cast<char*>(data), stride, bytes};
}

bool run_steps_of(const Plan& first, const Plan& rest, std::uintptr_t offsets, int64_t steps,
                  int threads, int64_t elements, std::uintptr_t count, int64_t width,
                  const SoonAt& at, const Plan* last, const Plan* before, const Plan* form,
                  const std::vector<std::pair<std::uintptr_t, int64_t>>& lanes,
                  std::uintptr_t alike, const ModelsAt& models) {
  const Lines lines{reinterpret_cast<const int64_t*>(offsets), steps, counts_at(count, width),
                    width};
  check_lines(lines, std::min(first.lines(), rest.lines()));
  check_run(first, lines.clients(), threads, elements);
  check_run(rest, lines.clients(), threads, elements);
  for (const Plan* each : {before, form, last}) {
    if (each) check_run(*each, lines.clients(), threads, elements);
  }
  Around around{last, before, {}, reinterpret_cast<const int64_t*>(alike), form, models_of(models)};
  for (const auto& [data, bytes] : lanes) around.lanes.rows.push_back({data, bytes});
  py::gil_scoped_release release;
  const profile::Run run;
  return Plan::run_steps(first, rest, lines, threads, elements, soon_of(at), around);
}

bool run_whole_of(const Plan& plan, int threads) {
  py::gil_scoped_release release;
  return plan.run_whole(threads);
}

void bind_plan(py::module_& m) {
  m.def("forget_recording", &forget_recording);
  py::class_<Plan>(m, "Plan")
      .def(py::init<bool>(), py::arg("whole") = false)
      .def("begin", &begin_recording)
      .def("end", &end_recording)
      .def("run", &run_of)
      .def("run_whole", &run_whole_of);
  m.def("run_steps", &run_steps_of);
}

// Totals (name, phase, under, calls, nanoseconds) and calls (name, phase, under, thread, begin,
// end).
py::tuple taken() {
  const auto [totals, calls] = profile::take();
  py::list sums, each;
  for (const auto& t : totals) {
    sums.append(py::make_tuple(t.kind.name, t.kind.phase, t.kind.under, t.calls, t.nanoseconds));
  }
  for (const auto& c : calls) {
    each.append(py::make_tuple(c.kind.name, c.kind.phase, c.kind.under, c.thread, c.begin, c.end));
  }
  return py::make_tuple(sums, each);
}

void bind_profile(py::module_& m) {
  m.def("profile_start", &profile::start);
  m.def("profile_stop", &profile::stop);
  m.def("profile_take", &taken);
  m.def("profile_now", &profile::now);
  m.def("profile_phase", [](int phase) { return std::exchange(profile::phase(), phase); });
}

// (name, kind) of the fields of every operation, in the order of its arguments.
py::dict fields() {
  py::dict found;
  for (const auto& [name, bound] : Bound::all()) found[name.c_str()] = bound->fields();
  return found;
}

void may(const std::string& operation, size_t field, uint64_t others) {
  Bound::all().at(operation)->may(field, others);
}

}  // namespace

void bind_images(py::module_& m);     // bindings_images.cpp
void bind_layers(py::module_& m);     // bindings_layers.cpp
void bind_schedule(py::module_& m);   // bindings_schedule.cpp
void bind_sequences(py::module_& m);  // bindings_sequences.cpp
void bind_data(py::module_& m);       // bindings_data.cpp

}  // namespace fedfast

PYBIND11_MODULE(_fedfast, m) {
  m.doc() = "The compiled backend of fedfast.kernels; call it through kernels/native.py.";
  fedfast::bind_rows(m);
  fedfast::bind_plan(m);
  fedfast::bind_profile(m);
  fedfast::bind_images(m);
  fedfast::bind_layers(m);
  fedfast::bind_sequences(m);
  fedfast::bind_schedule(m);
  fedfast::bind_data(m);
  m.def("fields", &fedfast::fields);
  m.def("placed_rows", [](py::object type) { fedfast::placed_rows() = type.release().ptr(); });
  m.def("may", &fedfast::may);
}
