// What models of sequences add to layers.h: tokens, recurrence, dropout, log-probabilities. Their
// meaning is kernels/reference/sequences.py.
//
// Letters: K clients, B rows of a batch, T steps of a sequence, V words, E elements of a word's
// vector, I inputs, H hidden units, C classes. What belongs to a client is contiguous; from client
// to client any stride. Each client is computed by one thread: results depend neither on `threads`
// nor on K.
#pragma once

#include "fedfast.h"

namespace fedfast {

// out = x scale where an element is kept, 0 where it is dropped. Draw e / span of element e is a
// word of Philox: dropped where word < threshold.
template <typename T>
struct Dropout {
  int64_t size = 0;                // elements of a client
  int64_t span = 1;                // neighbours that share a draw
  Bank<const T> x;                 // [K, size]
  const int64_t* seeds = nullptr;  // [K], Philox's keys
  uint32_t layer = 0;              // part of Philox's counter
  uint64_t threshold = 0;          // p 2^32
  T scale = 1;                     // 1 / (1 - p)
  Bank<T> out;                     // [K, size]; may be x
};

// out = x - log sum_c exp(x), row by row.
template <typename T>
struct LogSoftmax {
  int64_t rows = 0, classes = 0;  // rows of a client
  Bank<const T> x;                // [K, rows, C]
  Bank<T> out;                    // [K, rows, C]; may be x
};

// dx = dout - exp(out) sum_c dout.
template <typename T>
struct LogSoftmaxBackward {
  int64_t rows = 0, classes = 0;
  Bank<const T> out, dout;
  Bank<T> dx;  // may be dout
};

// out[b] = weight[token[b]].
template <typename T>
struct Embedding {
  int64_t tokens = 0, words = 0, size = 0;  // tokens of a client, V, E
  Bank<const int64_t> token;                // [K, tokens]
  Bank<const T> weight;                     // [K, V, E]
  Bank<T> out;                              // [K, tokens, E]
};

// dweight = beta base + alpha sum over tokens of dout; the word `padding` gets no gradient.
template <typename T>
struct EmbeddingBackward {
  int64_t tokens = 0, words = 0, size = 0;
  int64_t padding = -1;       // a word, or -1
  Bank<const int64_t> token;  // [K, tokens]
  Bank<const T> dout;         // [K, tokens, E]
  const T* alpha = nullptr;   // [K]
  const T* beta = nullptr;    // [K]; base is not read where it is 0
  Bank<const T> base;         // [K, V, E]
  Bank<T> dweight;            // [K, V, E]; may be base
};

// One LSTM layer, h and c zero before the first step; gates in torch's order i, f, g, o.
template <typename T>
struct Lstm {
  int64_t batch = 0, steps = 0, inputs = 0, hidden = 0;
  Bank<const T> x;                     // [K, B, T, I]
  Bank<const T> weight_ih, weight_hh;  // [K, 4H, I], [K, 4H, H]
  Bank<const T> bias_ih, bias_hh;      // [K, 4H] both, or none
  Bank<T> gates;                       // [K, B, T, 4H], after sigmoid and tanh
  Bank<T> cells;                       // [K, B, T, H]
  Bank<T> out;                         // [K, B, T, H]
};

// Where the gradient of a parameter goes: out = beta base + alpha gradient.
template <typename T>
struct Folded {
  Bank<const T> base;
  Bank<T> out;  // may be base
};

// Backpropagation through time: dx, then the parameters, which may be overwritten.
template <typename T>
struct LstmBackward {
  int64_t batch = 0, steps = 0, inputs = 0, hidden = 0;
  Bank<const T> x, weight_ih, weight_hh, out;
  Bank<T> gates, cells;      // overwritten; gates become the gradient before the activations
  Bank<const T> dout;        // [K, B, T, H]
  Bank<T> dx;                // [K, B, T, I] or none
  const T* alpha = nullptr;  // [K]
  const T* beta = nullptr;   // [K]; base is not read where it is 0
  Folded<T> weight_ih_to, weight_hh_to, bias_ih_to, bias_hh_to;  // biases both or none
};

template <typename T>
void dropout(int64_t clients, int threads, const Dropout<T>& p);
template <typename T>
void log_softmax(int64_t clients, int threads, const LogSoftmax<T>& p);
template <typename T>
void log_softmax_backward(int64_t clients, int threads, const LogSoftmaxBackward<T>& p);

// Whether every token was in range; a client with one that is not is left unwritten.
template <typename T>
bool embedding(int64_t clients, int threads, const Embedding<T>& p);
template <typename T>
bool embedding_backward(int64_t clients, int threads, const EmbeddingBackward<T>& p);

template <typename T>
void lstm(int64_t clients, int threads, const Lstm<T>& p);
template <typename T>
void lstm_backward(int64_t clients, int threads, const LstmBackward<T>& p);

}  // namespace fedfast
