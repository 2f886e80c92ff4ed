// `fedfast._fedfast_cuda`: which models fit, and their training. Tensors come as addresses.
#include <pybind11/pybind11.h>

#include "cuda/resident.h"

namespace py = pybind11;
using namespace fedfast::cuda;

namespace {

template <typename T>
T* address(const py::dict& given, const char* name) {
  return reinterpret_cast<T*>(given[name].cast<uintptr_t>());
}

Model model_of(const py::dict& g) {
  const auto n = [&g](const char* name) { return g[name].cast<int>(); };
  const auto on = [&g](const char* name) { return g[name].cast<bool>(); };
  return {n("inputs"), n("hidden"), n("middle"), n("classes"),
          n("width"),  on("norms"), on("heavy")};
}

// Whether rows of n numbers at `p`, each of `size` bytes, can be read four at a time.
bool in_fours(const void* p, int64_t n, int size) {
  return n % 4 == 0 && reinterpret_cast<uintptr_t>(p) % (4 * size) == 0;
}

void read_rows(const py::dict& g, Launch& p) {
  const auto offset = [&g](const char* name) { return g[name].cast<int64_t>(); };
  p.w1 = offset("w1"), p.b1 = offset("b1"), p.w2 = offset("w2"), p.b2 = offset("b2");
  p.wm = offset("wm"), p.bm = offset("bm");
  p.base = address<const float>(g, "base"), p.base_stride = offset("base_stride");
  p.out = address<float>(g, "out"), p.out_stride = offset("out_stride");
  p.addend = address<const float>(g, "addend"), p.addend_stride = offset("addend_stride");
  const bool even = (p.addend_stride | p.w1) % 4 == 0;
  p.addend_wide = even && in_fours(p.addend, p.model.inputs, sizeof(float));
}

void read_numbers(const py::dict& g, Launch& p) {
  p.alpha = address<const float>(g, "alpha"), p.beta = address<const float>(g, "beta");
  p.rho = address<const float>(g, "rho"), p.eps = g["eps"].cast<double>();
  p.clip = g["clip"].cast<double>(), p.clip_eps = g["clip_eps"].cast<double>();
  p.momentum = g["momentum"].cast<float>(), p.nesterov = g["nesterov"].cast<bool>();
}

void read_samples(const py::dict& g, Launch& p) {
  p.x = address<const void>(g, "x"), p.bytes = g["bytes"].cast<bool>();
  p.wide = in_fours(p.x, p.model.inputs, p.bytes ? 1 : sizeof(float));
  p.scale = address<const float>(g, "scale"), p.shift = address<const float>(g, "shift");
  p.plane = g["plane"].cast<int>();
  p.y = address<const int64_t>(g, "y"), p.samples = g["samples"].cast<int64_t>();
}

void read_batches(const py::dict& g, Launch& p) {
  p.clients = g["clients"].cast<int>(), p.steps = g["steps"].cast<int>();
  p.rows = address<const int64_t>(g, "rows"), p.count = address<const int32_t>(g, "count");
  p.offsets = address<const int64_t>(g, "offsets");
  p.total = address<double>(g, "total"), p.total_stride = g["total_stride"].cast<int64_t>();
}

Plan plan_of(const py::dict& given) {
  const Plan plan = plan_for(model_of(given));
  if (!plan.blocks) throw py::value_error("model: it does not fit into a cluster's shared memory");
  return plan;
}

void train_given(const py::dict& given, uint64_t stream) {
  Launch p{};
  p.model = model_of(given), p.plan = plan_of(given);
  read_rows(given, p), read_numbers(given, p), read_samples(given, p), read_batches(given, p);
  train(p, stream);
}

py::object described(const py::dict& given) {
  const Plan plan = plan_for(model_of(given));
  if (!plan.blocks) return py::none();
  py::dict found;
  found["blocks"] = plan.blocks, found["units"] = plan.units, found["samples"] = plan.samples;
  found["height"] = plan.height;
  found["bytes"] = plan.shared.end * int(sizeof(float));
  return found;
}

}  // namespace

PYBIND11_MODULE(_fedfast_cuda, m) {
#ifdef FEDFAST_CUDA_ON_HOST
  m.attr("device") = "cpu";
#else
  m.attr("device") = "cuda";
#endif
  m.def("plan", described, "How a model is spread over a cluster; None if it does not fit.");
  m.def(
      "clusters", [](const py::dict& given) { return clusters_at_once(plan_of(given)); },
      "Clients that the device trains at once.");
  m.def("train", train_given, py::arg("given"), py::arg("stream"),
        "All local steps of K clients; on the host `stream` shuffles threads.");
}
