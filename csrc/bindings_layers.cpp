// Layer operations: addresses, strides and sizes from kernels/_native_layers.py become layers.h's
// arguments.
#include <array>

#include "binding.h"
#include "cpu/gemm_kernels.h"
#include "layers.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Sizes = std::array<int64_t, 3>;    // B, I, O
using Samples = std::array<int64_t, 5>;  // n, B, channels, height, width
using Scene = std::array<Address, 5>;    // scale, shift, margin, offset, flip

void linear_any(const Problem& problem, const Sizes& sizes, int act, Operand x, Operand weight,
                Operand bias, Operand out) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    LinearForward<T> p;
    p.batch = sizes[0];
    p.inputs = sizes[1];
    p.outputs = sizes[2];
    p.x = bank<const T>(x);
    p.weight = bank<const T>(weight);
    p.bias = bank<const T>(bias);
    p.act = static_cast<Act>(act);
    p.out = bank<T>(out);
    linear(clients, threads, p);
  });
}

void linear_backward_any(const Problem& problem, const Sizes& sizes, int act, Operand x,
                         Operand weight, Operand out, Operand dout, Operand dx, Operand dweight,
                         Operand dbias, Address alpha, Address beta, Operand base_weight,
                         Operand base_bias) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    LinearBackward<T> p;
    p.batch = sizes[0];
    p.inputs = sizes[1];
    p.outputs = sizes[2];
    p.x = bank<const T>(x);
    p.weight = bank<const T>(weight);
    p.out = bank<const T>(out);
    p.dout = bank<T>(dout);
    p.act = static_cast<Act>(act);
    p.alpha = at<const T>(alpha);
    p.beta = at<const T>(beta);
    p.base_weight = bank<const T>(base_weight);
    p.base_bias = bank<const T>(base_bias);
    p.dx = bank<T>(dx);
    p.dweight = bank<T>(dweight);
    p.dbias = bank<T>(dbias);
    linear_backward(clients, threads, p);
  });
}

void activation_any(const Problem& problem, int64_t size, int act, double slope, Operand x,
                    Operand out) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    activation(clients, threads,
               ActivationForward<T>{size, bank<const T>(x), static_cast<Act>(act),
                                    static_cast<T>(slope), bank<T>(out)});
  });
}

void activation_backward_any(const Problem& problem, int64_t size, int act, double slope, Operand x,
                             Operand out, Operand dout, Operand dx) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    activation_backward(
        clients, threads,
        ActivationBackward<T>{size, bank<const T>(x), bank<const T>(out), bank<const T>(dout),
                              static_cast<Act>(act), static_cast<T>(slope), bank<T>(dx)});
  });
}

bool cross_entropy_any(const Problem& problem, int64_t batch, int64_t classes, Operand logits,
                       Operand targets, Address count, Address losses, Operand dlogits) {
  bool fine = false;
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    fine = cross_entropy(
        clients, threads,
        CrossEntropy<T>{batch, classes, bank<const T>(logits), bank<const int64_t>(targets),
                        at<const int32_t>(count), at<T>(losses), bank<T>(dlogits)});
  });
  return fine;
}

Gather gather_of(const Samples& s, const Operand& rows) {
  return {s[0], s[1], s[2], s[3], s[4], bank<const int64_t>(rows)};
}

bool gather_bytes_any(const Problem& problem, const Samples& samples, Operand rows, Address from,
                      int64_t element_bytes, Operand out) {
  const auto [wide, clients, threads] = problem;
  py::gil_scoped_release release;
  return gather_bytes(clients, threads, gather_of(samples, rows), at<const char>(from),
                      element_bytes, {at<char>(out.first), out.second * element_bytes});
}

bool gather_images_any(const Problem& problem, const Samples& samples, Operand rows, Address from,
                       const Scene& scene, Operand out) {
  bool fine = false;
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    const Look<T> look{at<const T>(scene[0]), at<const T>(scene[1]), at<const T>(scene[2]),
                       at<const int32_t>(scene[3]), at<const uint8_t>(scene[4])};
    fine = gather_images(clients, threads, gather_of(samples, rows), look, at<const uint8_t>(from),
                         bank<T>(out));
  });
  return fine;
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("linear", &linear_any);
  m.def("linear_backward", &linear_backward_any);
  m.def("activation", &activation_any);
  m.def("activation_backward", &activation_backward_any);
  m.def("cross_entropy", &cross_entropy_any);
  m.def("gather_bytes", &gather_bytes_any);
  m.def("gather_images", &gather_images_any);
  m.def("gemm_isa", [] { return static_cast<int>(gemm_isa()); });
  m.def("gemm_limit", [](int isa) { gemm_limit(static_cast<Isa>(isa)); });
}

}  // namespace fedfast
