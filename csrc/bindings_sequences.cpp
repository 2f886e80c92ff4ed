// Operations of sequences.h: operands from kernels/native_sequences.py become their arguments.
#include <array>

#include "dispatch.h"
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
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    dropout(part.clients, part.threads,
            Dropout<T>{size, span, bank<const T>(part, x), at<const int64_t>(part, seeds), layer,
                       threshold, static_cast<T>(scale), bank<T>(part, out)});
  });
}

void log_softmax_any(const Problem& problem, int64_t rows, int64_t classes, Operand x,
                     Operand out) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    log_softmax(part.clients, part.threads,
                LogSoftmax<T>{rows, classes, bank<const T>(part, x), bank<T>(part, out)});
  });
}

void log_softmax_backward_any(const Problem& problem, int64_t rows, int64_t classes, Operand out,
                              Operand dout, Operand dx) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    log_softmax_backward(part.clients, part.threads,
                         LogSoftmaxBackward<T>{rows, classes, bank<const T>(part, out),
                                               bank<const T>(part, dout), bank<T>(part, dx)});
  });
}

bool embedding_any(const Problem& problem, const Table& sizes, Operand token, Operand weight,
                   Operand out) {
  return dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    return embedding(part.clients, part.threads,
                     Embedding<T>{sizes[0], sizes[1], sizes[2], bank<const int64_t>(part, token),
                                  bank<const T>(part, weight), bank<T>(part, out)});
  });
}

bool embedding_backward_any(const Problem& problem, const Table& sizes, int64_t padding,
                            Operand token, Operand dout, Address alpha, Address beta, Operand base,
                            Operand dweight) {
  return dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    return embedding_backward(
        part.clients, part.threads,
        EmbeddingBackward<T>{sizes[0], sizes[1], sizes[2], padding,
                             bank<const int64_t>(part, token), bank<const T>(part, dout),
                             at<const T>(part, alpha), at<const T>(part, beta),
                             bank<const T>(part, base), bank<T>(part, dweight)});
  });
}

void lstm_any(const Problem& problem, const Sizes& sizes, Operand x, const Params& params,
              const Kept& kept) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    lstm(part.clients, part.threads,
         Lstm<T>{sizes[0], sizes[1], sizes[2], sizes[3], bank<const T>(part, x),
                 bank<const T>(part, params[0]), bank<const T>(part, params[1]),
                 bank<const T>(part, params[2]), bank<const T>(part, params[3]),
                 bank<T>(part, kept[0]), bank<T>(part, kept[1]), bank<T>(part, kept[2])});
  });
}

void lstm_backward_any(const Problem& problem, const Sizes& sizes, Operand x, const Params& params,
                       const Kept& kept, Operand dout, Operand dx, Address alpha, Address beta,
                       const Params& bases, const Params& outs) {
  dispatch(problem, [=](const Part& part, auto zero) {
    using T = decltype(zero);
    const auto to = [&](int i) {
      return Folded<T>{bank<const T>(part, bases[i]), bank<T>(part, outs[i])};
    };
    LstmBackward<T> p;
    p.batch = sizes[0];
    p.steps = sizes[1];
    p.inputs = sizes[2];
    p.hidden = sizes[3];
    p.x = bank<const T>(part, x);
    p.weight_ih = bank<const T>(part, params[0]);
    p.weight_hh = bank<const T>(part, params[1]);
    p.gates = bank<T>(part, kept[0]);
    p.cells = bank<const T>(part, kept[1]);
    p.out = bank<const T>(part, kept[2]);
    p.dout = bank<const T>(part, dout);
    p.dx = bank<T>(part, dx);
    p.alpha = at<const T>(part, alpha);
    p.beta = at<const T>(part, beta);
    p.weight_ih_to = to(0);
    p.weight_hh_to = to(1);
    p.bias_ih_to = to(2);
    p.bias_hh_to = to(3);
    lstm_backward(part.clients, part.threads, p);
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
