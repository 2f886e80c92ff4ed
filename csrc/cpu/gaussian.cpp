#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/functions.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "layers.h"

namespace fedfast {
namespace {

constexpr int64_t kPiece = 256;  // columns of an input that are worked on at a time

// torch's, which is the argument itself above 20.
template <typename T>
T softplus_of(T x) {
  return x > 20 ? x : std::max(x, T{0}) + std::log1p(exp_down(-std::fabs(x)));
}

template <typename T>
void spreads(const T* x, T alpha, int64_t n, T* sigma) {
  for (int64_t i = 0; i < n; ++i) sigma[i] = softplus_of(x[i] - alpha);
}

template <typename T>
FEDFAST_CLONES void draw(const T* mu, const T* sigma, const T* noise, int64_t n, T* z) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) z[i] = mu[i] + sigma[i] * noise[i];
}

template <typename T>
FEDFAST_CLONES void add_up(const T* dz, const T* noise, int64_t n, T* dmu, T* dsigma) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    dmu[i] += dz[i];
    dsigma[i] += dz[i] * noise[i];
  }
}

// Calls use(first, n) for pieces of the columns.
template <typename Use>
void by_piece(int64_t size, const Use& use) {
  for (int64_t d = 0; d < size; d += kPiece) use(d, std::min(kPiece, size - d));
}

template <typename T>
void forward(const SampleGaussian<T>& p, int64_t k) {
  const int64_t rows = p.count[k], all = p.samples * p.size;
  const T* noise = p.noise.row(k);
  T* z = p.z.row(k);
  for (int64_t b = 0; b < rows; ++b) {
    const T* mu = p.h.row(k) + b * 2 * p.size;
    by_piece(p.size, [&](int64_t d, int64_t n) {
      T sigma[kPiece];
      spreads(mu + p.size + d, p.alpha, n, sigma);
      for (int64_t at = b * all + d; at < (b + 1) * all; at += p.size) {
        draw(mu + d, sigma, noise + at, n, z + at);
      }
    });
  }
  std::fill(z + rows * all, z + p.batch * all, T{0});
  for (int64_t b = 0; b < p.batch; ++b) {
    std::fill_n(p.labels.row(k) + b * p.samples, p.samples, p.targets.row(k)[b]);
  }
  *p.counts.row(k) = static_cast<int32_t>(rows * p.samples);
}

// What the divergence from N(m, s^2) adds to the gradients of mu and sigma; returns its value.
template <typename T>
double diverge(const T* mu, const T* sigma, const T* m, const T* s, T share, int64_t n, T* dmu,
               T* dsigma) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T gap = mu[i] - m[i], variance = sigma[i] * sigma[i];
    const T square = (s[i] * s[i] + gap * gap) / variance;
    dmu[i] += share * gap / variance;
    dsigma[i] += share * (1 - square) / sigma[i];
    sum += T{0.5} * (square - 1 - 2 * std::log(s[i] / sigma[i]));
  }
  return sum;
}

template <typename T>
double backward(const SampleGaussianBackward<T>& p, int64_t k, int64_t b, T share) {
  const int64_t all = p.samples * p.size, prior = p.targets.row(k)[b] * p.size;
  const T* mu = p.h.row(k) + b * 2 * p.size;
  T* dh = p.dh.row(k) + b * 2 * p.size;
  double apart = 0;
  by_piece(p.size, [&](int64_t d, int64_t n) {
    T sigma[kPiece], dsigma[kPiece] = {};
    T* dmu = dh + d;
    const T* x = mu + p.size + d;
    spreads(x, p.alpha, n, sigma);
    std::fill_n(dmu, n, T{0});
    for (int64_t at = b * all + d; at < (b + 1) * all; at += p.size) {
      add_up(p.dz.row(k) + at, p.noise.row(k) + at, n, dmu, dsigma);
    }
    if (p.beta != 0) {
      const int64_t at = prior + d;
      apart +=
          diverge(mu + d, sigma, p.mean.row(k) + at, p.spread.row(k) + at, share, n, dmu, dsigma);
    }
    for (int64_t i = 0; i < n; ++i) {
      const T t = x[i] - p.alpha;
      dmu[p.size + i] = t > 20 ? dsigma[i] : dsigma[i] * sigmoid_of(t);
    }
  });
  return apart;
}

template <typename T>
void backward(const SampleGaussianBackward<T>& p, int64_t k) {
  const int64_t rows = p.count[k];
  const double share = static_cast<double>(p.beta) / static_cast<double>(rows);
  double apart = 0;
  for (int64_t b = 0; b < rows; ++b) apart += backward(p, k, b, static_cast<T>(share));
  std::fill(p.dh.row(k) + rows * 2 * p.size, p.dh.row(k) + p.batch * 2 * p.size, T{0});
  if (p.beta != 0) *p.losses.row(k) += static_cast<T>(apart * share);
}

template <typename T>
void sum(const SumGaussians<T>& p, int64_t k) {
  if (p.last[k] == 0) return;
  for (int64_t b = 0; b < p.count[k]; ++b) {
    const int64_t at = p.targets.row(k)[b] * p.size;
    const T* mu = p.h.row(k) + b * 2 * p.size;
    T *precision = p.precision.row(k) + at, *pull = p.pull.row(k) + at;
    for (int64_t i = 0; i < p.size; ++i) {
      const T sigma = softplus_of(mu[p.size + i] - p.alpha), added = p.last[k] / (sigma * sigma);
      precision[i] += added;
      pull[i] += mu[i] * added;
    }
  }
}

template <typename P>
bool counts(const P& p, int64_t k) {
  return 0 <= p.count[k] && p.count[k] <= p.batch;
}

template <typename P>
bool in_range(const P& p, int64_t k) {
  const int64_t* y = p.targets.row(k);
  return counts(p, k) && std::all_of(y, y + p.count[k], [&](int64_t label) {
           return 0 <= label && label < p.classes;
         });
}

// Calls run(k) for the clients that are fine(k).
template <typename Fine, typename Run>
bool each_client(int64_t clients, int threads, int64_t elements, const Fine& fine, const Run& run) {
  std::atomic<bool> all{true};
  parallel(worth(threads, clients, clients * elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) fine(k) ? run(k) : all.store(false);
  });
  return all;
}

}  // namespace

template <typename T>
bool sample_gaussian(int64_t clients, int threads, const SampleGaussian<T>& p) {
  return each_client(
      clients, threads, p.batch * p.size * (2 + 2 * p.samples),
      [&](int64_t k) { return counts(p, k); }, [&](int64_t k) { forward(p, k); });
}

template <typename T>
bool sample_gaussian_backward(int64_t clients, int threads, const SampleGaussianBackward<T>& p) {
  return each_client(
      clients, threads, p.batch * p.size * (4 + 2 * p.samples),
      [&](int64_t k) { return in_range(p, k); }, [&](int64_t k) { backward(p, k); });
}

template <typename T>
bool sum_gaussians(int64_t clients, int threads, const SumGaussians<T>& p) {
  return each_client(
      clients, threads, 2 * p.batch * p.size, [&](int64_t k) { return in_range(p, k); },
      [&](int64_t k) { sum(p, k); });
}

template bool sample_gaussian(int64_t, int, const SampleGaussian<float>&);
template bool sample_gaussian(int64_t, int, const SampleGaussian<double>&);
template bool sample_gaussian_backward(int64_t, int, const SampleGaussianBackward<float>&);
template bool sample_gaussian_backward(int64_t, int, const SampleGaussianBackward<double>&);
template bool sum_gaussians(int64_t, int, const SumGaussians<float>&);
template bool sum_gaussians(int64_t, int, const SumGaussians<double>&);

}  // namespace fedfast
