// Layer operations: addresses, strides and sizes from kernels/native_layers.py become layers.h's
// arguments.
#include <array>

#include "cpu/gemm_kernels.h"
#include "dispatch.h"
#include "layers.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Sizes = std::array<int64_t, 3>;    // B, I, O
using Samples = std::array<int64_t, 5>;  // n, B, channels, height, width
using Scene = std::array<Address, 5>;    // scale, shift, margin, offset, flip

void linear_any(const Problem& problem, const Sizes& sizes, int act, Operand x, Operand weight,
                Operand bias, Operand out) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    LinearForward<T> p;
    p.batch = sizes[0];
    p.inputs = sizes[1];
    p.outputs = sizes[2];
    p.x = bank<const T>(part, x);
    p.weight = bank<const T>(part, weight);
    p.bias = bank<const T>(part, bias);
    p.act = static_cast<Act>(act);
    p.out = bank<T>(part, out);
    linear(part.clients, part.threads, p);
  });
}

void linear_backward_any(const Problem& problem, const Sizes& sizes, int act, Operand x,
                         Operand weight, Operand out, Operand dout, Operand dx, Operand dweight,
                         Operand dbias, Address alpha, Address beta, Operand base_weight,
                         Operand base_bias) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    LinearBackward<T> p;
    p.batch = sizes[0];
    p.inputs = sizes[1];
    p.outputs = sizes[2];
    p.x = bank<const T>(part, x);
    p.weight = bank<const T>(part, weight);
    p.out = bank<const T>(part, out);
    p.dout = bank<T>(part, dout);
    p.act = static_cast<Act>(act);
    p.alpha = at<const T>(part, alpha);
    p.beta = at<const T>(part, beta);
    p.base_weight = bank<const T>(part, base_weight);
    p.base_bias = bank<const T>(part, base_bias);
    p.dx = bank<T>(part, dx);
    p.dweight = bank<T>(part, dweight);
    p.dbias = bank<T>(part, dbias);
    linear_backward(part.clients, part.threads, p);
  });
}

void ghost_any(const Problem& problem, const Sizes& sizes, double ones, Operand x, Operand d,
               Operand gram, Operand squares) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    ghost(part.clients, part.threads,
          Ghost<T>{sizes[0], sizes[1], sizes[2], bank<const T>(part, x), bank<const T>(part, d),
                   static_cast<T>(ones), bank<T>(part, gram), bank<double>(part, squares)});
  });
}

void lowrank_any(const Problem& problem, const Sizes& sizes, int act, double ones, Operand x,
                 Operand u, Operand v, Operand gram, Address scale, Operand base, Operand out) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    LowRank<T> p;
    p.batch = sizes[0];
    p.inputs = sizes[1];
    p.outputs = sizes[2];
    p.x = bank<const T>(part, x);
    p.u = bank<const T>(part, u);
    p.v = bank<const T>(part, v);
    p.gram = bank<const T>(part, gram);
    p.ones = static_cast<T>(ones);
    p.scale = at<const T>(part, scale);
    p.base = bank<const T>(part, base);
    p.act = static_cast<Act>(act);
    p.out = bank<T>(part, out);
    lowrank(part.clients, part.threads, p);
  });
}

using SlotsAt = std::tuple<Address, int64_t, int64_t, int64_t>;  // client stride, count, step

Slots slots_of(const Part& part, const SlotsAt& slots) {
  const auto [address, stride, count, step] = slots;
  return {bank<const double>(part, {address, stride}), count, step};
}

// numbers: rho, eps, most.
void reach_any(const Problem& problem, const std::array<SlotsAt, 2>& squares,
               const std::array<double, 3>& numbers, Address out) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    const auto [rho, eps, most] = numbers;
    reach(part.clients, Reach<T>{{slots_of(part, squares[0]), slots_of(part, squares[1])},
                                 rho,
                                 eps,
                                 most,
                                 at<T>(part, out)});
  });
}

void activation_any(const Problem& problem, int64_t size, int act, double slope, Operand x,
                    Operand out) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    activation(part.clients, part.threads,
               ActivationForward<T>{size, bank<const T>(part, x), static_cast<Act>(act),
                                    static_cast<T>(slope), bank<T>(part, out)});
  });
}

void activation_backward_any(const Problem& problem, int64_t size, int act, double slope, Operand x,
                             Operand out, Operand dout, Operand dx) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    activation_backward(
        part.clients, part.threads,
        ActivationBackward<T>{size, bank<const T>(part, x), bank<const T>(part, out),
                              bank<const T>(part, dout), static_cast<Act>(act),
                              static_cast<T>(slope), bank<T>(part, dx)});
  });
}

bool cross_entropy_any(const Problem& problem, int64_t batch, int64_t classes, Operand logits,
                       Operand targets, Address count, Address losses, Operand dlogits) {
  return dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    return cross_entropy(
        part.clients, part.threads,
        CrossEntropy<T>{batch, classes, bank<const T>(part, logits),
                        bank<const int64_t>(part, targets), at<const int32_t>(part, count),
                        at<T>(part, losses), bank<T>(part, dlogits)});
  });
}

Gather gather_of(const Part& part, const Samples& s, const Operand& rows) {
  return {s[0], s[1], s[2], s[3], s[4], bank<const int64_t>(part, rows)};
}

// What all clients read.
template <typename T>
const T* shared(Address address) {
  return reinterpret_cast<const T*>(address);
}

bool gather_bytes_any(const Problem& problem, const Samples& samples, Operand rows, Address from,
                      int64_t element_bytes, Operand out) {
  const Operand bytes{out.first, out.second * element_bytes};
  return dispatch(problem, [=](const Part& part, auto) {
    return gather_bytes(part.clients, part.threads, gather_of(part, samples, rows),
                        shared<char>(from), element_bytes, bank<char>(part, bytes));
  });
}

bool gather_images_any(const Problem& problem, const Samples& samples, Operand rows, Address from,
                       const Scene& scene, Operand out) {
  return dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    const int64_t slots = part.first * samples[1];
    const auto from_slot = [&](auto* of, int64_t each) { return of ? of + slots * each : of; };
    const Look<T> look{shared<T>(scene[0]), shared<T>(scene[1]), shared<T>(scene[2]),
                       from_slot(shared<int32_t>(scene[3]), 2),
                       from_slot(shared<uint8_t>(scene[4]), 1)};
    return gather_images(part.clients, part.threads, gather_of(part, samples, rows), look,
                         shared<uint8_t>(from), bank<T>(part, out));
  });
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("linear", &linear_any);
  m.def("linear_backward", &linear_backward_any);
  m.def("ghost", &ghost_any);
  m.def("lowrank", &lowrank_any);
  m.def("reach", &reach_any);
  m.def("activation", &activation_any);
  m.def("activation_backward", &activation_backward_any);
  m.def("cross_entropy", &cross_entropy_any);
  m.def("gather_bytes", &gather_bytes_any);
  m.def("gather_images", &gather_images_any);
  m.def("gemm_isa", [] { return static_cast<int>(gemm_isa()); });
  m.def("gemm_limit", [](int isa) { gemm_limit(static_cast<Isa>(isa)); });
}

}  // namespace fedfast
