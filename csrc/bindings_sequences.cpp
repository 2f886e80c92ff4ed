// Operations of sequences.h.
#include "bind.h"
#include "fields.h"
#include "sequences.h"

namespace py = pybind11;

namespace fedfast {

#define LSTM_SIZES \
  batch("B", &P::batch), field("T", &P::steps), field("I", &P::inputs), field("H", &P::hidden)
#define FOLDED(name)                                     \
  field("base_" #name, &P::name##_to, &Folded<T>::base), \
      field("d" #name, &P::name##_to, &Folded<T>::out)

void bind_sequences(py::module_& m) {
  bind<Dropout>(m, "dropout",
                FIELDS(Dropout, batch("rest", &P::size), F(x), F(seeds), F(layer), F(threshold),
                       F(scale), F(span), F(out)),
                RUN(dropout));
  bind<LogSoftmax>(
      m, "log_softmax",
      FIELDS(LogSoftmax, batch("rest", &P::rows), field("C", &P::classes), F(x), F(out)),
      RUN(log_softmax));
  bind<LogSoftmaxBackward>(m, "log_softmax_backward",
                           FIELDS(LogSoftmaxBackward, batch("rest", &P::rows),
                                  field("C", &P::classes), F(out), F(dout), F(dx)),
                           RUN(log_softmax_backward));
  bind<Embedding>(m, "embedding",
                  FIELDS(Embedding, batch("rest", &P::tokens), field("V", &P::words),
                         field("E", &P::size), F(token), F(weight), F(out)),
                  RUN(embedding));
  bind<EmbeddingBackward>(
      m, "embedding_backward",
      FIELDS(EmbeddingBackward, batch("rest", &P::tokens), field("V", &P::words),
             field("E", &P::size), F(token), F(dout), F(padding), F(dweight), F(alpha), F(beta),
             field("base_weight", &P::base)),
      RUN(embedding_backward));
  bind<Lstm>(m, "lstm",
             FIELDS(Lstm, LSTM_SIZES, F(x), F(weight_ih), F(weight_hh), F(bias_ih), F(bias_hh),
                    F(gates), F(cells), F(out)),
             RUN(lstm));
  bind<LstmBackward>(m, "lstm_backward",
                     FIELDS(LstmBackward, LSTM_SIZES, F(x), F(weight_ih), F(weight_hh), F(gates),
                            F(cells), F(out), F(dout), F(dx), FOLDED(weight_ih), FOLDED(weight_hh),
                            FOLDED(bias_ih), FOLDED(bias_hh), F(alpha), F(beta)),
                     RUN(lstm_backward));
}

}  // namespace fedfast
