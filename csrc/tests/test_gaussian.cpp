#include "tests/layers.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kBatches[] = {1, 5}, kDims[] = {1, 37, 300};
constexpr int64_t kSamples = 3, kClasses = 4;
constexpr double kAlpha = 0.5, kBeta = 0.25;

double spread(double x) { return std::log1p(std::exp(x - kAlpha)); }

// A ragged batch of Gaussians; h, noise and dz by client, targets in turn.
template <typename T>
struct Drawn {
  int64_t batch, size, clients, rows = batch - batch / 3;
  Rows<T> h = block<T>(clients, batch * 2 * size, 1);
  Rows<T> noise = block<T>(clients, batch * kSamples * size, 2);
  Rows<T> dz = block<T>(clients, batch * kSamples * size, 3);
  std::vector<int64_t> targets = std::vector<int64_t>(clients * batch);
  std::vector<int32_t> count = std::vector<int32_t>(clients, static_cast<int32_t>(rows));

  Drawn(int64_t batch, int64_t size, int64_t clients) : batch(batch), size(size), clients(clients) {
    for (size_t i = 0; i < targets.size(); ++i) targets[i] = static_cast<int64_t>(i) % kClasses;
  }
  Bank<const int64_t> labels() const { return {targets.data(), batch}; }
  double mu(int64_t k, int64_t b, int64_t d) const { return h.at(k, b * 2 * size + d); }
  double sigma(int64_t k, int64_t b, int64_t d) const {
    return spread(h.at(k, b * 2 * size + size + d));
  }
};

template <typename T>
void sampled(int64_t batch, int64_t size, int64_t clients, int threads) {
  Drawn<T> in(batch, size, clients);
  const int64_t n = batch * kSamples * size;
  Rows<T> z = block<T>(clients, n, 4);
  std::vector<int64_t> labels(clients * batch * kSamples);
  std::vector<int32_t> counts(clients);
  SampleGaussian<T> p{batch, size, kSamples};
  p.h = in.h.read(), p.noise = in.noise.read(), p.targets = in.labels();
  p.count = in.count.data(), p.alpha = T(kAlpha), p.z = z.bank();
  p.labels = {labels.data(), batch * kSamples}, p.counts = {counts.data(), 1};
  expect("in range", sample_gaussian(clients, threads, p), 1, 0);
  expect_block("z", z, clients, n, [&](int64_t k, int64_t i) {
    const int64_t b = i / size / kSamples, d = i % size;
    return b < in.rows ? in.mu(k, b, d) + in.sigma(k, b, d) * in.noise.at(k, i) : 0;
  });
  for (size_t i = 0; i < labels.size(); ++i)
    expect("label", labels[i], in.targets[i / kSamples], 0);
  for (int32_t found : counts) expect("count", found, in.rows * kSamples, 0);
  in.count.back() = static_cast<int32_t>(batch + 1);
  expect("out of range", sample_gaussian(clients, threads, p), 0, 0);
}

template <typename T>
void backward(int64_t batch, int64_t size, int64_t clients, int threads) {
  Drawn<T> in(batch, size, clients);
  Rows<T> mean = block<T>(clients, kClasses * size, 5), dh = block<T>(clients, batch * 2 * size, 6);
  Rows<T> s = block<T>(clients, kClasses * size, 7), losses = block<T>(clients, 1, 8);
  for (int64_t k = 0; k < clients; ++k) {
    for (int64_t i = 0; i < kClasses * size; ++i) s.bank().row(k)[i] = T(0.5 + i % 3);
    *losses.bank().row(k) = 2;
  }
  SampleGaussianBackward<T> p{batch, size, kSamples, kClasses};
  p.h = in.h.read(), p.noise = in.noise.read(), p.dz = in.dz.read(), p.targets = in.labels();
  p.count = in.count.data(), p.mean = mean.read(), p.spread = s.read();
  p.alpha = T(kAlpha), p.beta = T(kBeta), p.losses = losses.bank(), p.dh = dh.bank();
  expect("in range", sample_gaussian_backward(clients, threads, p), 1, 0);
  const double share = kBeta / in.rows;
  for (int64_t k = 0; k < clients; ++k) {
    double loss = 2;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t d = 0; d < size; ++d) {
        const int64_t at = in.targets[k * batch + b] * size + d;
        const double sigma = in.sigma(k, b, d), gap = in.mu(k, b, d) - mean.at(k, at);
        const double square = (s.at(k, at) * s.at(k, at) + gap * gap) / (sigma * sigma);
        double dmu = share * gap / (sigma * sigma), dsigma = share * (1 - square) / sigma;
        for (int64_t l = 0; l < kSamples; ++l) {
          const int64_t i = (b * kSamples + l) * size + d;
          dmu += in.dz.at(k, i), dsigma += in.dz.at(k, i) * in.noise.at(k, i);
        }
        const double x = in.h.at(k, b * 2 * size + size + d) - kAlpha;
        const bool counts = b < in.rows;
        expect("dmu", dh.at(k, b * 2 * size + d), counts ? dmu : 0, kLayer<T>);
        const double slope = 1 / (1 + std::exp(-x));
        expect("dx", dh.at(k, b * 2 * size + size + d), counts ? dsigma * slope : 0, kLayer<T>);
        if (counts) loss += share * 0.5 * (square - 1 - 2 * std::log(s.at(k, at) / sigma));
      }
    }
    expect("loss", losses.at(k, 0), loss, kLayer<T>);
  }
  in.targets[0] = kClasses;
  expect("out of range", sample_gaussian_backward(clients, threads, p), 0, 0);
}

template <typename T>
void summed(int64_t batch, int64_t size, int64_t clients, int threads) {
  Drawn<T> in(batch, size, clients);
  const int64_t n = kClasses * size;
  Rows<T> precision = block<T>(clients, n, 5), pull = block<T>(clients, n, 6);
  const Rows<T> before = block<T>(clients, n, 5), other = block<T>(clients, n, 6);
  std::vector<T> last(clients);
  for (int64_t k = 0; k < clients; ++k) last[k] = T(k % 2 == 0);
  SumGaussians<T> p{batch, size, kClasses};
  p.h = in.h.read(), p.targets = in.labels(), p.count = in.count.data(), p.last = last.data();
  p.alpha = T(kAlpha), p.precision = precision.bank(), p.pull = pull.bank();
  expect("in range", sum_gaussians(clients, threads, p), 1, 0);
  const auto sum = [&](int64_t k, int64_t i, bool pulls) {
    double total = 0;
    for (int64_t b = 0; b < in.rows && last[k] != 0; ++b) {
      const double sigma = in.sigma(k, b, i % size), mu = in.mu(k, b, i % size);
      const bool own = in.targets[k * batch + b] == i / size;
      if (own) total += (pulls ? mu : 1) / (sigma * sigma);
    }
    return total;
  };
  for (int64_t k = 0; k < clients; ++k) {
    for (int64_t i = 0; i < n; ++i) {
      expect("precision", precision.at(k, i), before.at(k, i) + sum(k, i, false), 10 * kLayer<T>);
      expect("pull", pull.at(k, i), other.at(k, i) + sum(k, i, true), 10 * kLayer<T>);
    }
  }
}

template <typename T>
void every(int64_t batch, int64_t size, int64_t clients, int threads) {
  sampled<T>(batch, size, clients, threads);
  backward<T>(batch, size, clients, threads);
  summed<T>(batch, size, clients, threads);
}

}  // namespace

void test_gaussian() {
  for (int64_t batch : kBatches) {
    for (int64_t size : kDims) {
      each_crowd([&](int64_t clients, int threads) {
        every<float>(batch, size, clients, threads);
        every<double>(batch, size, clients, threads);
      });
    }
  }
}

}  // namespace fedfast::tests
