#include "tests/layers.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kBatches[] = {1, 5, 33}, kClasses[] = {1, 10, 37, 300};

template <typename T>
double probability(const Rows<T>& rows, int64_t k, int64_t row, int64_t c, int64_t classes,
                   double scale) {
  double sum = 0;
  for (int64_t i = 0; i < classes; ++i) sum += std::exp(scale * rows.at(k, row + i));
  return std::exp(scale * rows.at(k, row + c)) / sum;
}

template <typename T>
void divergence(int64_t batch, int64_t classes, int64_t clients, int threads) {
  const int64_t n = batch * classes;
  Rows<T> logits = block<T>(clients, n, 1), before = block<T>(clients, n, 2);
  Rows<T> out = block<T>(clients, n, 3);
  std::vector<int32_t> count(clients, static_cast<int32_t>(batch - batch / 3));
  const T scale = T{1} / 4;
  KlGradient<T> p{batch, classes, logits.read(), before.read(), count.data(), scale, out.bank()};
  expect("in range", kl_gradient(clients, threads, p), 1, 0);
  for (int64_t k = 0; k < clients; ++k) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = i / classes * classes, c = i % classes;
      const double gap = probability(logits, k, row, c, classes, scale) -
                         probability(before, k, row, c, classes, scale);
      const bool counts = i / classes < count[k];
      expect("out", out.at(k, i), counts ? gap * scale / count[k] : 0, kLayer<T>);
    }
  }
  p.before = p.logits;
  expect("alike", kl_gradient(clients, threads, p), 1, 0);
  for (int64_t k = 0; k < clients; ++k) {
    for (int64_t i = 0; i < n; ++i) expect("exactly 0", out.at(k, i), 0, 0);
  }
  count.back() = static_cast<int32_t>(batch + 1);
  expect("out of range", kl_gradient(clients, threads, p), 0, 0);
}

}  // namespace

void test_divergence() {
  for (int64_t batch : kBatches) {
    for (int64_t classes : kClasses) {
      each_crowd([&](int64_t clients, int threads) {
        divergence<float>(batch, classes, clients, threads);
        divergence<double>(batch, classes, clients, threads);
      });
    }
  }
}

}  // namespace fedfast::tests
