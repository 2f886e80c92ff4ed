#include <algorithm>
#include <atomic>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "sequences.h"

namespace fedfast {
namespace {

bool in_range(const int64_t* token, int64_t tokens, int64_t words) {
  return std::all_of(token, token + tokens, [&](int64_t t) { return 0 <= t && t < words; });
}

// to += alpha from.
template <typename T>
FEDFAST_CLONES void add(T alpha, const T* from, int64_t n, T* to) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) to[i] += alpha * from[i];
}

template <typename T>
FEDFAST_CLONES void scaled(T beta, const T* base, int64_t n, T* to) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) to[i] = beta * base[i];
}

template <typename T>
void forward(const Embedding<T>& p, int64_t k) {
  const int64_t* token = p.token.row(k);
  T* out = p.out.row(k);
  for (int64_t b = 0; b < p.tokens; ++b, out += p.size) {
    std::copy_n(p.weight.row(k) + token[b] * p.size, p.size, out);
  }
}

// Tokens are added in their order.
template <typename T>
void backward(const EmbeddingBackward<T>& p, int64_t k) {
  const int64_t* token = p.token.row(k);
  const T* dout = p.dout.row(k);
  T* dweight = p.dweight.row(k);
  const int64_t all = p.words * p.size;
  p.beta[k] == 0 ? void(std::fill_n(dweight, all, T{0}))
                 : scaled(p.beta[k], p.base.row(k), all, dweight);
  for (int64_t b = 0; b < p.tokens; ++b, dout += p.size) {
    if (token[b] != p.padding) add(p.alpha[k], dout, p.size, dweight + token[b] * p.size);
  }
}

// Calls run(p, k) for the clients whose tokens are all in range.
template <typename P, typename Run>
bool each_client(int64_t clients, int threads, const P& p, int64_t elements, const Run& run) {
  std::atomic<bool> fine{true};
  parallel(worth(threads, clients, clients * elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      in_range(p.token.row(k), p.tokens, p.words) ? run(p, k) : fine.store(false);
    }
  });
  return fine;
}

}  // namespace

template <typename T>
bool embedding(int64_t clients, int threads, const Embedding<T>& p) {
  return each_client(clients, threads, p, p.tokens * p.size, forward<T>);
}

template <typename T>
bool embedding_backward(int64_t clients, int threads, const EmbeddingBackward<T>& p) {
  return each_client(clients, threads, p, (p.tokens + p.words) * p.size, backward<T>);
}

template bool embedding(int64_t, int, const Embedding<float>&);
template bool embedding(int64_t, int, const Embedding<double>&);
template bool embedding_backward(int64_t, int, const EmbeddingBackward<float>&);
template bool embedding_backward(int64_t, int, const EmbeddingBackward<double>&);

}  // namespace fedfast
