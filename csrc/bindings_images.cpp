// Operations on images: addresses, strides and sizes from kernels/native_images.py become
// images.h's arguments.
#include <array>

#include "dispatch.h"
#include "images.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Sizes = std::array<int64_t, 4>;         // B, C, O, groups
using WindowSizes = std::array<int64_t, 12>;  // as struct Window

Window window_of(const WindowSizes& w) {
  return {w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11]};
}

ConvShape conv_shape(const Sizes& s, const WindowSizes& w) {
  return {s[0], s[1], s[2], s[3], window_of(w)};
}

using Pooled = std::pair<WindowSizes, Operand>;  // windows over the results, taps; or zeros

void conv_any(const Problem& problem, const Sizes& sizes, const WindowSizes& window,
              const Pooled& pooled, int act, Operand x, Operand weight, Operand bias, Operand out) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    Conv<T> p;
    p.shape = conv_shape(sizes, window);
    p.pool = window_of(pooled.first);
    p.tap = bank<uint8_t>(part, pooled.second);
    p.act = static_cast<Act>(act);
    p.x = bank<const T>(part, x);
    p.weight = bank<const T>(part, weight);
    p.bias = bank<const T>(part, bias);
    p.out = bank<T>(part, out);
    conv(part.clients, part.threads, p);
  });
}

void conv_backward_any(const Problem& problem, const Sizes& sizes, const WindowSizes& window,
                       const Pooled& pooled, int act, Operand x, Operand weight, Operand out,
                       Operand dout, Operand dx, Operand dweight, Operand dbias,
                       Operand base_weight, Operand base_bias, Address alpha, Address beta) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    ConvBackward<T> p;
    p.shape = conv_shape(sizes, window);
    p.pool = window_of(pooled.first);
    p.tap = bank<const uint8_t>(part, pooled.second);
    p.act = static_cast<Act>(act);
    p.x = bank<const T>(part, x);
    p.weight = bank<const T>(part, weight);
    p.out = bank<const T>(part, out);
    p.dout = bank<T>(part, dout);
    p.dx = bank<T>(part, dx);
    p.dweight = bank<T>(part, dweight);
    p.dbias = bank<T>(part, dbias);
    p.base_weight = bank<const T>(part, base_weight);
    p.base_bias = bank<const T>(part, base_bias);
    p.alpha = at<const T>(part, alpha);
    p.beta = at<const T>(part, beta);
    conv_backward(part.clients, part.threads, p);
  });
}

using PoolKind = std::pair<bool, bool>;  // max?, count padding?

void pool_any(const Problem& problem, int64_t planes, const WindowSizes& window, PoolKind kind,
              Operand x, Operand out, Operand argmax) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    pool(part.clients, part.threads,
         Pool<T>{planes, window_of(window), kind.first, kind.second, bank<const T>(part, x),
                 bank<T>(part, out), bank<int32_t>(part, argmax)});
  });
}

void pool_backward_any(const Problem& problem, int64_t planes, const WindowSizes& window,
                       PoolKind kind, Operand dout, Operand dx, Operand argmax) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    pool_backward(part.clients, part.threads,
                  PoolBackward<T>{planes, window_of(window), kind.first, kind.second,
                                  bank<const T>(part, dout), bank<const int32_t>(part, argmax),
                                  bank<T>(part, dx)});
  });
}

void adaptive_avg_any(const Problem& problem, int64_t planes, const WindowSizes& window,
                      Operand from, Operand to) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    adaptive_avg(
        part.clients, part.threads,
        AdaptivePool<T>{planes, window_of(window), bank<const T>(part, from), bank<T>(part, to)});
  });
}

void adaptive_avg_backward_any(const Problem& problem, int64_t planes, const WindowSizes& window,
                               Operand from, Operand to) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    adaptive_avg_backward(
        part.clients, part.threads,
        AdaptivePool<T>{planes, window_of(window), bank<const T>(part, from), bank<T>(part, to)});
  });
}

NormShape norm_shape(const Sizes& s) { return {s[0], s[1], s[2], s[3]}; }

void batch_norm_any(const Problem& problem, const Sizes& sizes,
                    const std::array<Operand, 3>& given,  // x, weight, bias
                    const std::array<Operand, 2>& running, Address count, bool training,
                    std::pair<double, double> numbers,  // momentum, eps
                    const std::array<Operand, 3>& to) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    BatchNorm<T> p;
    p.shape = norm_shape(sizes);
    p.x = bank<const T>(part, given[0]);
    p.weight = bank<const T>(part, given[1]);
    p.bias = bank<const T>(part, given[2]);
    p.running_mean = bank<T>(part, running[0]);
    p.running_var = bank<T>(part, running[1]);
    p.count = at<const int32_t>(part, count);
    p.training = training;
    p.momentum = static_cast<T>(numbers.first);
    p.eps = static_cast<T>(numbers.second);
    p.out = bank<T>(part, to[0]);
    p.mean = bank<T>(part, to[1]);
    p.rstd = bank<T>(part, to[2]);
    batch_norm(part.clients, part.threads, p);
  });
}

void group_norm_any(const Problem& problem, const Sizes& sizes, const std::array<Operand, 3>& given,
                    double eps, const std::array<Operand, 3>& to) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    GroupNorm<T> p;
    p.shape = norm_shape(sizes);
    p.x = bank<const T>(part, given[0]);
    p.weight = bank<const T>(part, given[1]);
    p.bias = bank<const T>(part, given[2]);
    p.eps = static_cast<T>(eps);
    p.out = bank<T>(part, to[0]);
    p.mean = bank<T>(part, to[1]);
    p.rstd = bank<T>(part, to[2]);
    group_norm(part.clients, part.threads, p);
  });
}

template <typename T>
NormBackward<T> norm_backward_of(const Part& part, const Sizes& sizes,
                                 const std::array<Operand, 5>& given, Address count, bool training,
                                 const std::array<Operand, 3>& to,
                                 std::pair<Address, Address> scales,
                                 std::pair<Operand, Operand> bases) {
  NormBackward<T> p;
  p.shape = norm_shape(sizes);
  p.x = bank<const T>(part, given[0]);
  p.weight = bank<const T>(part, given[1]);
  p.dout = bank<const T>(part, given[2]);
  p.mean = bank<const T>(part, given[3]);
  p.rstd = bank<const T>(part, given[4]);
  p.count = at<const int32_t>(part, count);
  p.training = training;
  p.dx = bank<T>(part, to[0]);
  p.dweight = bank<T>(part, to[1]);
  p.dbias = bank<T>(part, to[2]);
  p.alpha = at<const T>(part, scales.first);
  p.beta = at<const T>(part, scales.second);
  p.base_weight = bank<const T>(part, bases.first);
  p.base_bias = bank<const T>(part, bases.second);
  return p;
}

void batch_norm_backward_any(const Problem& problem, const Sizes& sizes,
                             const std::array<Operand, 5>& given, Address count, bool training,
                             const std::array<Operand, 3>& to, std::pair<Address, Address> scales,
                             std::pair<Operand, Operand> bases) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    batch_norm_backward(
        part.clients, part.threads,
        norm_backward_of<T>(part, sizes, given, count, training, to, scales, bases));
  });
}

void group_norm_backward_any(const Problem& problem, const Sizes& sizes,
                             const std::array<Operand, 5>& given, Address count, bool training,
                             const std::array<Operand, 3>& to, std::pair<Address, Address> scales,
                             std::pair<Operand, Operand> bases) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    group_norm_backward(
        part.clients, part.threads,
        norm_backward_of<T>(part, sizes, given, count, training, to, scales, bases));
  });
}

}  // namespace

void bind_images(py::module_& m) {
  m.def("conv", &conv_any);
  m.def("conv_backward", &conv_backward_any);
  m.def("pool", &pool_any);
  m.def("pool_backward", &pool_backward_any);
  m.def("adaptive_avg", &adaptive_avg_any);
  m.def("adaptive_avg_backward", &adaptive_avg_backward_any);
  m.def("batch_norm", &batch_norm_any);
  m.def("batch_norm_backward", &batch_norm_backward_any);
  m.def("group_norm", &group_norm_any);
  m.def("group_norm_backward", &group_norm_backward_any);
}

}  // namespace fedfast
