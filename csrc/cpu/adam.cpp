#include "adam.h"

#include <cmath>

#include "cpu/isa.h"
#include "cpu/passes.h"

namespace fedfast {
namespace {

// The numbers of one client.
template <typename T>
struct Numbers {
  T beta1, rest1, beta2, rest2, eps;
  T rate, unroot;   // eta / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  T coupled, kept;  // weight decay that joins the gradient; share of w that stays
};

template <typename T>
Numbers<T> numbers_of(const Adam<T>& p, int64_t k) {
  const double t = p.t[k], eta = p.eta[k], decay = p.weight_decay[k];
  return {static_cast<T>(p.beta1),
          static_cast<T>(1 - p.beta1),
          static_cast<T>(p.beta2),
          static_cast<T>(1 - p.beta2),
          static_cast<T>(p.eps),
          static_cast<T>(eta / (1 - std::pow(p.beta1, t))),
          static_cast<T>(1 / std::sqrt(1 - std::pow(p.beta2, t))),
          static_cast<T>(p.decoupled ? 0 : decay),
          static_cast<T>(p.decoupled ? 1 - eta * decay : 1)};
}

template <typename T>
FEDFAST_CLONES void adam_block(const Numbers<T>& c, const T* w, const T* g, T* m, T* v, T* out,
                               int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(w + begin, g + begin, m + begin, v + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      const T x = w[i], d = g[i] + c.coupled * x;
      const T first = c.beta1 * m[i] + c.rest1 * d;
      const T second = c.beta2 * v[i] + c.rest2 * d * d;
      m[i] = first;
      v[i] = second;
      out[i] = c.kept * x - c.rate * first / (std::sqrt(second) * c.unroot + c.eps);
    }
  }
}

}  // namespace

template <typename T>
void adam(const Shape& shape, const Adam<T>& p) {
  const std::vector<Piece> pieces = cut_row(shape.size);
  each_piece(shape, pieces, [&](int64_t k, const Piece& piece) {
    const int64_t i = piece.start;
    adam_block(numbers_of(p, k), p.w.row(k) + i, p.g.row(k) + i, p.m.row(k) + i, p.v.row(k) + i,
               p.out.row(k) + i, piece.stop - i);
  });
}

template void adam(const Shape&, const Adam<float>&);
template void adam(const Shape&, const Adam<double>&);

}  // namespace fedfast
