// Batch normalisation: statistics of a client's channel over its own first `count` samples.
#include <cmath>
#include <vector>

#include "cpu/norm.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// Of channel c over the samples that count.
template <typename T>
Moments moments_of(const NormShape& s, const T* x, int64_t c, int64_t count) {
  const int64_t image = s.channels * s.inner, elements = count * s.inner;
  if (elements == 0) return {0, 0};
  double sum = 0, squares = 0;
  for (int64_t b = 0; b < count; ++b) sum += norm_sum(x + b * image + c * s.inner, s.inner);
  const double mean = sum / elements;
  for (int64_t b = 0; b < count; ++b) {
    squares += norm_squares(x + b * image + c * s.inner, mean, s.inner);
  }
  return {mean, squares / elements};
}

// Torch's rule: running variances are unbiased. A single number has none: it counts as 0.
template <typename T>
void keep(const BatchNorm<T>& p, int64_t k, int64_t c, const Moments& m, int64_t elements) {
  if (!p.running_mean || elements == 0) return;
  const double unbiased = elements > 1 ? m.variance * elements / (elements - 1) : 0;
  T &mean = p.running_mean.row(k)[c], &variance = p.running_var.row(k)[c];
  mean = (T{1} - p.momentum) * mean + p.momentum * static_cast<T>(m.mean);
  variance = (T{1} - p.momentum) * variance + p.momentum * static_cast<T>(unbiased);
}

template <typename T>
void forward_channel(const BatchNorm<T>& p, int64_t k, int64_t c) {
  const NormShape& s = p.shape;
  const T* x = p.x.row(k);
  Moments m{0, 0};
  if (p.training) {
    m = moments_of(s, x, c, p.count[k]);
    keep(p, k, c, m, p.count[k] * s.inner);
  } else {
    m = {static_cast<double>(p.running_mean.row(k)[c]),
         static_cast<double>(p.running_var.row(k)[c])};
  }
  const T mean = static_cast<T>(m.mean);
  const T rstd = static_cast<T>(1 / std::sqrt(m.variance + static_cast<double>(p.eps)));
  p.mean.row(k)[c] = mean;
  p.rstd.row(k)[c] = rstd;
  const T scale = p.weight ? p.weight.row(k)[c] * rstd : rstd;
  const T shift = p.bias ? p.bias.row(k)[c] : T{0};
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t at = (b * s.channels + c) * s.inner;
    norm_apply(x + at, mean, scale, shift, p.out.row(k) + at, s.inner);
  }
}

template <typename T>
Pulls backward_channel(const NormBackward<T>& p, int64_t k, int64_t c) {
  const NormShape& s = p.shape;
  const T *x = p.x.row(k), *dout = p.dout.row(k);
  const T mean = p.mean.row(k)[c], rstd = p.rstd.row(k)[c];
  const int64_t count = p.count[k], elements = count * s.inner;
  Pulls sum;
  for (int64_t b = 0; b < count; ++b) {
    const int64_t at = (b * s.channels + c) * s.inner;
    const Pulls part = norm_pulls(dout + at, x + at, mean, rstd, s.inner);
    sum.plain += part.plain;
    sum.along += part.along;
  }
  if (!p.dx) return sum;
  const bool moves = p.training && elements > 0;  // the statistics move with x
  const T plain = moves ? static_cast<T>(sum.plain / elements) : T{0};
  const T along = moves ? static_cast<T>(sum.along / elements) : T{0};
  const T scale = p.weight ? p.weight.row(k)[c] * rstd : rstd;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t at = (b * s.channels + c) * s.inner;
    if (b < count) {
      norm_pull(dout + at, x + at, mean, rstd, scale, plain, along, p.dx.row(k) + at, s.inner);
    } else {
      std::fill_n(p.dx.row(k) + at, s.inner, T{0});
    }
  }
  return sum;
}

int64_t elements_of(int64_t clients, const NormShape& s) {
  return clients * s.batch * s.channels * s.inner;
}

}  // namespace

template <typename T>
void batch_norm(int64_t clients, int threads, const BatchNorm<T>& p) {
  parallel(worth(threads, clients, elements_of(clients, p.shape)), clients,
           [&](int64_t k, int64_t last) {
             for (; k < last; ++k) {
               for (int64_t c = 0; c < p.shape.channels; ++c) forward_channel(p, k, c);
             }
           });
}

template <typename T>
void batch_norm_backward(int64_t clients, int threads, const NormBackward<T>& p) {
  parallel(worth(threads, clients, elements_of(clients, p.shape)), clients,
           [&](int64_t k, int64_t last) {
             const int64_t channels = p.shape.channels;
             std::vector<double> dweight(channels), dbias(channels);
             for (; k < last; ++k) {
               for (int64_t c = 0; c < channels; ++c) {
                 const Pulls sum = backward_channel(p, k, c);
                 dweight[c] = sum.along;
                 dbias[c] = sum.plain;
               }
               norm_fold(p, p.dweight, p.base_weight, k, dweight.data(), channels);
               norm_fold(p, p.dbias, p.base_bias, k, dbias.data(), channels);
             }
           });
}

template void batch_norm(int64_t, int, const BatchNorm<float>&);
template void batch_norm(int64_t, int, const BatchNorm<double>&);
template void batch_norm_backward(int64_t, int, const NormBackward<float>&);
template void batch_norm_backward(int64_t, int, const NormBackward<double>&);

}  // namespace fedfast
