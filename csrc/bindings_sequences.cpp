// Operations of sequences.h: operands from kernels/_native_sequences.py become their arguments.
#include <array>

#include "binding.h"
#include "sequences.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Sizes = std::array<int64_t, 4>;   // B, T, I, H
using Table = std::array<int64_t, 3>;   // tokens, V, E
using Params = std::array<Operand, 4>;  // weight_ih, weight_hh, bias_ih, bias_hh
using Kept = std::array<Operand, 3>;    // gates, cells, out

void dropout_any(const Problem& problem, int64_t size, int64_t span, Operand x, Address seeds,
                 uint32_t layer, uint64_t threshold, double scale, Operand out) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    dropout(clients, threads,
            Dropout<T>{size, span, bank<const T>(x), at<const int64_t>(seeds), layer, threshold,
                       static_cast<T>(scale), bank<T>(out)});
  });
}

void log_softmax_any(const Problem& problem, int64_t rows, int64_t classes, Operand x,
                     Operand out) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    log_softmax(clients, threads, LogSoftmax<T>{rows, classes, bank<const T>(x), bank<T>(out)});
  });
}

void log_softmax_backward_any(const Problem& problem, int64_t rows, int64_t classes, Operand out,
                              Operand dout, Operand dx) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    log_softmax_backward(
        clients, threads,
        LogSoftmaxBackward<T>{rows, classes, bank<const T>(out), bank<const T>(dout), bank<T>(dx)});
  });
}

bool embedding_any(const Problem& problem, const Table& sizes, Operand token, Operand weight,
                   Operand out) {
  bool fine = false;
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    fine = embedding(clients, threads,
                     Embedding<T>{sizes[0], sizes[1], sizes[2], bank<const int64_t>(token),
                                  bank<const T>(weight), bank<T>(out)});
  });
  return fine;
}

bool embedding_backward_any(const Problem& problem, const Table& sizes, int64_t padding,
                            Operand token, Operand dout, Address alpha, Address beta, Operand base,
                            Operand dweight) {
  bool fine = false;
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    fine = embedding_backward(
        clients, threads,
        EmbeddingBackward<T>{sizes[0], sizes[1], sizes[2], padding, bank<const int64_t>(token),
                             bank<const T>(dout), at<const T>(alpha), at<const T>(beta),
                             bank<const T>(base), bank<T>(dweight)});
  });
  return fine;
}

void lstm_any(const Problem& problem, const Sizes& sizes, Operand x, const Params& params,
              const Kept& kept) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    lstm(clients, threads,
         Lstm<T>{sizes[0], sizes[1], sizes[2], sizes[3], bank<const T>(x), bank<const T>(params[0]),
                 bank<const T>(params[1]), bank<const T>(params[2]), bank<const T>(params[3]),
                 bank<T>(kept[0]), bank<T>(kept[1]), bank<T>(kept[2])});
  });
}

void lstm_backward_any(const Problem& problem, const Sizes& sizes, Operand x, const Params& params,
                       const Kept& kept, Operand dout, Operand dx, Address alpha, Address beta,
                       const Params& bases, const Params& outs) {
  dispatch(problem, [&](int64_t clients, int threads, auto zero) {
    using T = decltype(zero);
    const auto to = [&](int i) { return Folded<T>{bank<const T>(bases[i]), bank<T>(outs[i])}; };
    LstmBackward<T> p;
    p.batch = sizes[0];
    p.steps = sizes[1];
    p.inputs = sizes[2];
    p.hidden = sizes[3];
    p.x = bank<const T>(x);
    p.weight_ih = bank<const T>(params[0]);
    p.weight_hh = bank<const T>(params[1]);
    p.gates = bank<T>(kept[0]);
    p.cells = bank<const T>(kept[1]);
    p.out = bank<const T>(kept[2]);
    p.dout = bank<const T>(dout);
    p.dx = bank<T>(dx);
    p.alpha = at<const T>(alpha);
    p.beta = at<const T>(beta);
    p.weight_ih_to = to(0);
    p.weight_hh_to = to(1);
    p.bias_ih_to = to(2);
    p.bias_hh_to = to(3);
    lstm_backward(clients, threads, p);
  });
}

}  // namespace

void bind_sequences(py::module_& m) {
  m.def("dropout", &dropout_any);
  m.def("log_softmax", &log_softmax_any);
  m.def("log_softmax_backward", &log_softmax_backward_any);
  m.def("embedding", &embedding_any);
  m.def("embedding_backward", &embedding_backward_any);
  m.def("lstm", &lstm_any);
  m.def("lstm_backward", &lstm_backward_any);
}

}  // namespace fedfast
