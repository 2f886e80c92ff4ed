#include "tests/layers.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kBatches[] = {1, 5, 33}, kClasses[] = {1, 2, 10, 37};

template <typename T>
void entropy(int64_t batch, int64_t classes, int64_t clients, int threads) {
  const int64_t n = batch * classes;
  Rows<T> logits = block<T>(clients, n, 1), dlogits = block<T>(clients, n, 2);
  std::vector<int64_t> targets(clients * batch);
  for (size_t i = 0; i < targets.size(); ++i) targets[i] = i * 7 % classes;
  std::vector<int32_t> count(clients, static_cast<int32_t>(batch - batch / 3));
  std::vector<T> losses(clients);
  const CrossEntropy<T> p{batch,        classes,       logits.read(), {targets.data(), batch},
                          count.data(), losses.data(), dlogits.bank()};
  expect("in range", cross_entropy(clients, threads, p), 1, 0);
  for (int64_t k = 0; k < clients; ++k) {
    double loss = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t row = b * classes, target = targets[k * batch + b];
      double sum = 0;
      for (int64_t c = 0; c < classes; ++c) sum += std::exp(logits.at(k, row + c));
      const bool counts = b < count[k];
      if (counts) loss += std::log(sum) - logits.at(k, row + target);
      for (int64_t c = 0; c < classes; ++c) {
        const double pull = std::exp(logits.at(k, row + c)) / sum - (c == target);
        expect("dlogits", dlogits.at(k, row + c), counts ? pull / count[k] : 0, kLayer<T>);
      }
    }
    expect("loss", losses[k], loss / count[k], kLayer<T>);
  }
  targets.back() = classes;
  count.back() = static_cast<int32_t>(batch);
  expect("out of range", cross_entropy(clients, threads, p), 0, 0);
}

}  // namespace

void test_loss() {
  for (int64_t batch : kBatches) {
    for (int64_t classes : kClasses) {
      each_crowd([&](int64_t clients, int threads) {
        entropy<float>(batch, classes, clients, threads);
        entropy<double>(batch, classes, clients, threads);
      });
    }
  }
}

}  // namespace fedfast::tests
