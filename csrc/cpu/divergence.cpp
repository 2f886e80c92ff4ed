#include <algorithm>
#include <atomic>

#include "cpu/functions.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "layers.h"

namespace fedfast {
namespace {

constexpr int64_t kPiece = 256;  // exponentials of `before` held at a time

template <typename T>
FEDFAST_CLONES void exp_scaled(const T* x, T top, T scale, int64_t n, T* e) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) e[i] = exp_down((x[i] - top) * scale);
}

template <typename T>
FEDFAST_CLONES void subtract(const T* e, T share, T own, int64_t n, T* out) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) out[i] = out[i] * own - e[i] * share;
}

// Calls use(first, n, e), e = exp(scale (x - top)), for pieces of the row.
template <typename T, typename Use>
void by_piece(const T* x, int64_t classes, T scale, const Use& use) {
  const T top = largest(x, classes);
  T e[kPiece];
  for (int64_t c = 0; c < classes; c += kPiece) {
    const int64_t n = std::min(kPiece, classes - c);
    exp_scaled(x + c, top, scale, n, e);
    use(c, n, e);
  }
}

// Both probabilities are formed alike, so that logits that are those before give exactly 0.
template <typename T>
void one_row(const T* logits, const T* before, int64_t classes, T scale, double weight, T* out) {
  exp_scaled(logits, largest(logits, classes), scale, classes, out);
  const T own = static_cast<T>(weight / sum_from(0, out, classes));
  double total = 0;
  by_piece(before, classes, scale,
           [&](int64_t, int64_t n, const T* e) { total = sum_from(total, e, n); });
  const T share = static_cast<T>(weight / total);
  by_piece(before, classes, scale,
           [&](int64_t c, int64_t n, const T* e) { subtract(e, share, own, n, out + c); });
}

template <typename T>
void one_client(const KlGradient<T>& p, int64_t k) {
  const int64_t rows = p.count[k], n = p.classes;
  const double weight = static_cast<double>(p.scale) / static_cast<double>(rows);
  T* out = p.out.row(k);
  for (int64_t b = 0; b < rows; ++b) {
    const int64_t at = b * n;
    one_row(p.logits.row(k) + at, p.before.row(k) + at, n, p.scale, weight, out + at);
  }
  std::fill(out + rows * n, out + p.batch * n, T{0});
}

}  // namespace

template <typename T>
bool kl_gradient(int64_t clients, int threads, const KlGradient<T>& p) {
  std::atomic<bool> fine{true};
  const int64_t elements = 2 * clients * p.batch * p.classes;
  parallel(worth(threads, clients, elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      0 <= p.count[k] && p.count[k] <= p.batch ? one_client(p, k) : fine.store(false);
    }
  });
  return fine;
}

template bool kl_gradient(int64_t, int, const KlGradient<float>&);
template bool kl_gradient(int64_t, int, const KlGradient<double>&);

}  // namespace fedfast
