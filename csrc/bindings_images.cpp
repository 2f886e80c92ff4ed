// Operations on images: addresses, strides and sizes from kernels/_native_images.py become
// images.h's arguments.
#include <array>

#include "binding.h"
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

void conv_any(const Problem& problem, const Sizes& sizes, const WindowSizes& window, int act,
              Operand x, Operand weight, Operand bias, Operand out) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    Conv<T> p;
    p.shape = conv_shape(sizes, window);
    p.act = static_cast<Act>(act);
    p.x = bank<const T>(x);
    p.weight = bank<const T>(weight);
    p.bias = bank<const T>(bias);
    p.out = bank<T>(out);
    conv(clients, threads, p);
  });
}

void conv_backward_any(const Problem& problem, const Sizes& sizes, const WindowSizes& window,
                       int act, Operand x, Operand weight, Operand out, Operand dout, Operand dx,
                       Operand dweight, Operand dbias, Operand base_weight, Operand base_bias,
                       Address alpha, Address beta) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    ConvBackward<T> p;
    p.shape = conv_shape(sizes, window);
    p.act = static_cast<Act>(act);
    p.x = bank<const T>(x);
    p.weight = bank<const T>(weight);
    p.out = bank<const T>(out);
    p.dout = bank<T>(dout);
    p.dx = bank<T>(dx);
    p.dweight = bank<T>(dweight);
    p.dbias = bank<T>(dbias);
    p.base_weight = bank<const T>(base_weight);
    p.base_bias = bank<const T>(base_bias);
    p.alpha = at<const T>(alpha);
    p.beta = at<const T>(beta);
    conv_backward(clients, threads, p);
  });
}

using PoolKind = std::pair<bool, bool>;  // max?, count padding?

void pool_any(const Problem& problem, int64_t planes, const WindowSizes& window, PoolKind kind,
              Operand x, Operand out, Operand argmax) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    const auto [max, count_padding] = kind;
    pool(clients, threads,
         Pool<T>{planes, window_of(window), max, count_padding, bank<const T>(x), bank<T>(out),
                 bank<int32_t>(argmax)});
  });
}

void pool_backward_any(const Problem& problem, int64_t planes, const WindowSizes& window,
                       PoolKind kind, Operand dout, Operand dx, Operand argmax) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    const auto [max, count_padding] = kind;
    pool_backward(clients, threads,
                  PoolBackward<T>{planes, window_of(window), max, count_padding,
                                  bank<const T>(dout), bank<const int32_t>(argmax), bank<T>(dx)});
  });
}

void adaptive_avg_any(const Problem& problem, int64_t planes, const WindowSizes& window,
                      Operand from, Operand to) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    adaptive_avg(clients, threads,
                 AdaptivePool<T>{planes, window_of(window), bank<const T>(from), bank<T>(to)});
  });
}

void adaptive_avg_backward_any(const Problem& problem, int64_t planes, const WindowSizes& window,
                               Operand from, Operand to) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    adaptive_avg_backward(
        clients, threads,
        AdaptivePool<T>{planes, window_of(window), bank<const T>(from), bank<T>(to)});
  });
}

NormShape norm_shape(const Sizes& s) { return {s[0], s[1], s[2], s[3]}; }

void batch_norm_any(const Problem& problem, const Sizes& sizes,
                    const std::array<Operand, 3>& given,  // x, weight, bias
                    const std::array<Operand, 2>& running, Address count, bool training,
                    std::pair<double, double> numbers,  // momentum, eps
                    const std::array<Operand, 3>& to) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    BatchNorm<T> p;
    p.shape = norm_shape(sizes);
    p.x = bank<const T>(given[0]);
    p.weight = bank<const T>(given[1]);
    p.bias = bank<const T>(given[2]);
    p.running_mean = bank<T>(running[0]);
    p.running_var = bank<T>(running[1]);
    p.count = at<const int32_t>(count);
    p.training = training;
    p.momentum = static_cast<T>(numbers.first);
    p.eps = static_cast<T>(numbers.second);
    p.out = bank<T>(to[0]);
    p.mean = bank<T>(to[1]);
    p.rstd = bank<T>(to[2]);
    batch_norm(clients, threads, p);
  });
}

void group_norm_any(const Problem& problem, const Sizes& sizes, const std::array<Operand, 3>& given,
                    double eps, const std::array<Operand, 3>& to) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    GroupNorm<T> p;
    p.shape = norm_shape(sizes);
    p.x = bank<const T>(given[0]);
    p.weight = bank<const T>(given[1]);
    p.bias = bank<const T>(given[2]);
    p.eps = static_cast<T>(eps);
    p.out = bank<T>(to[0]);
    p.mean = bank<T>(to[1]);
    p.rstd = bank<T>(to[2]);
    group_norm(clients, threads, p);
  });
}

template <typename T>
NormBackward<T> norm_backward_of(const Sizes& sizes, const std::array<Operand, 5>& given,
                                 Address count, bool training, const std::array<Operand, 3>& to,
                                 std::pair<Address, Address> scales,
                                 std::pair<Operand, Operand> bases) {
  NormBackward<T> p;
  p.shape = norm_shape(sizes);
  p.x = bank<const T>(given[0]);
  p.weight = bank<const T>(given[1]);
  p.dout = bank<const T>(given[2]);
  p.mean = bank<const T>(given[3]);
  p.rstd = bank<const T>(given[4]);
  p.count = at<const int32_t>(count);
  p.training = training;
  p.dx = bank<T>(to[0]);
  p.dweight = bank<T>(to[1]);
  p.dbias = bank<T>(to[2]);
  p.alpha = at<const T>(scales.first);
  p.beta = at<const T>(scales.second);
  p.base_weight = bank<const T>(bases.first);
  p.base_bias = bank<const T>(bases.second);
  return p;
}

void batch_norm_backward_any(const Problem& problem, const Sizes& sizes,
                             const std::array<Operand, 5>& given, Address count, bool training,
                             const std::array<Operand, 3>& to, std::pair<Address, Address> scales,
                             std::pair<Operand, Operand> bases) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    batch_norm_backward(clients, threads,
                        norm_backward_of<T>(sizes, given, count, training, to, scales, bases));
  });
}

void group_norm_backward_any(const Problem& problem, const Sizes& sizes,
                             const std::array<Operand, 5>& given, Address count, bool training,
                             const std::array<Operand, 3>& to, std::pair<Address, Address> scales,
                             std::pair<Operand, Operand> bases) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    group_norm_backward(clients, threads,
                        norm_backward_of<T>(sizes, given, count, training, to, scales, bases));
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
