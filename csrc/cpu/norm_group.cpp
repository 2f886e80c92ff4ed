// Group normalisation, sample by sample; layer normalisation is one group of channels of one
// element each.
#include <cmath>
#include <vector>

#include "cpu/norm.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// Weight and bias, one per channel; with one element per channel whole rows of them.
template <typename T>
struct Affine {
  const T *weight, *bias;
  T weight_of(int64_t c) const { return weight ? weight[c] : T{1}; }
  T bias_of(int64_t c) const { return bias ? bias[c] : T{0}; }
};

template <typename T>
FEDFAST_CLONES void apply_elements(const T* x, T mean, T rstd, const T* weight, const T* bias,
                                   T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const T scaled = (x[i] - mean) * rstd;
    out[i] = (weight ? scaled * weight[i] : scaled) + (bias ? bias[i] : T{0});
  }
}

// to[i] += dout[i] and times the normalised x, element by element; `pull` = dout * weight.
template <typename T>
FEDFAST_CLONES void gather_elements(const T* dout, const T* x, T mean, T rstd, const T* weight,
                                    T* pull, double* dweight, double* dbias, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    pull[i] = weight ? dout[i] * weight[i] : dout[i];
    dweight[i] += static_cast<double>(dout[i] * ((x[i] - mean) * rstd));
    dbias[i] += static_cast<double>(dout[i]);
  }
}

template <typename T>
void forward_group(const GroupNorm<T>& p, int64_t k, int64_t b, int64_t g) {
  const NormShape& s = p.shape;
  const int64_t channels = s.channels / s.groups, size = channels * s.inner, first = g * channels;
  const int64_t at = (b * s.channels + first) * s.inner;
  const T* x = p.x.row(k) + at;
  T* out = p.out.row(k) + at;
  const double exact = norm_sum(x, size) / size;
  const double variance = norm_squares(x, exact, size) / size;
  const T mean = static_cast<T>(exact);
  const T rstd = static_cast<T>(1 / std::sqrt(variance + static_cast<double>(p.eps)));
  p.mean.row(k)[b * s.groups + g] = mean;
  p.rstd.row(k)[b * s.groups + g] = rstd;
  const Affine<T> affine{p.weight ? p.weight.row(k) + first : nullptr,
                         p.bias ? p.bias.row(k) + first : nullptr};
  if (s.inner == 1) return apply_elements(x, mean, rstd, affine.weight, affine.bias, out, size);
  for (int64_t c = 0; c < channels; ++c) {
    norm_apply(x + c * s.inner, mean, affine.weight_of(c) * rstd, affine.bias_of(c),
               out + c * s.inner, s.inner);
  }
}

// Gradients of weight and bias by channel, added sample after sample.
struct Gathered {
  std::vector<double> dweight, dbias;
};

// sum of dout * weight over the group, and of the same times the normalised x.
template <typename T>
Pulls gather_group(const NormBackward<T>& p, const T* dout, const T* x, T mean, T rstd,
                   const T* weight, int64_t first, T* pull, Gathered& to) {
  const NormShape& s = p.shape;
  const int64_t channels = s.channels / s.groups;
  if (s.inner == 1) {
    gather_elements(dout, x, mean, rstd, weight, pull, &to.dweight[first], &to.dbias[first],
                    channels);
    return norm_pulls(static_cast<const T*>(pull), x, mean, rstd, channels);
  }
  Pulls sum;
  for (int64_t c = 0; c < channels; ++c) {
    const Pulls own = norm_pulls(dout + c * s.inner, x + c * s.inner, mean, rstd, s.inner);
    to.dbias[first + c] += own.plain;
    to.dweight[first + c] += own.along;
    const double scale = weight ? static_cast<double>(weight[c]) : 1;
    sum.plain += scale * own.plain;
    sum.along += scale * own.along;
  }
  return sum;
}

template <typename T>
void backward_group(const NormBackward<T>& p, int64_t k, int64_t b, int64_t g, T* pull,
                    Gathered& to) {
  const NormShape& s = p.shape;
  const int64_t channels = s.channels / s.groups, size = channels * s.inner, first = g * channels;
  const int64_t at = (b * s.channels + first) * s.inner;
  const T *x = p.x.row(k) + at, *dout = p.dout.row(k) + at;
  const T mean = p.mean.row(k)[b * s.groups + g], rstd = p.rstd.row(k)[b * s.groups + g];
  const T* weight = p.weight ? p.weight.row(k) + first : nullptr;
  const Pulls sum = gather_group(p, dout, x, mean, rstd, weight, first, pull, to);
  if (!p.dx) return;
  T* dx = p.dx.row(k) + at;
  const T plain = static_cast<T>(sum.plain / size), along = static_cast<T>(sum.along / size);
  if (s.inner == 1) {
    return norm_pull(static_cast<const T*>(pull), x, mean, rstd, rstd, plain, along, dx, size);
  }
  for (int64_t c = 0; c < channels; ++c) {
    const T scale = weight ? weight[c] : T{1};
    for (int64_t i = 0; i < s.inner; ++i) pull[i] = dout[c * s.inner + i] * scale;
    norm_pull(static_cast<const T*>(pull), x + c * s.inner, mean, rstd, rstd, plain, along,
              dx + c * s.inner, s.inner);
  }
}

template <typename T>
void backward_client(const NormBackward<T>& p, int64_t k, std::vector<T>& pull, Gathered& to) {
  const NormShape& s = p.shape;
  std::fill(to.dweight.begin(), to.dweight.end(), 0.0);
  std::fill(to.dbias.begin(), to.dbias.end(), 0.0);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t g = 0; g < s.groups; ++g) backward_group(p, k, b, g, pull.data(), to);
  }
  norm_fold(p, p.dweight, p.base_weight, k, to.dweight.data(), s.channels);
  norm_fold(p, p.dbias, p.base_bias, k, to.dbias.data(), s.channels);
}

int64_t elements_of(int64_t clients, const NormShape& s) {
  return clients * s.batch * s.channels * s.inner;
}

}  // namespace

template <typename T>
void group_norm(int64_t clients, int threads, const GroupNorm<T>& p) {
  parallel(worth(threads, clients, elements_of(clients, p.shape)), clients,
           [&](int64_t k, int64_t last) {
             for (; k < last; ++k) {
               for (int64_t b = 0; b < p.shape.batch; ++b) {
                 for (int64_t g = 0; g < p.shape.groups; ++g) forward_group(p, k, b, g);
               }
             }
           });
}

template <typename T>
void group_norm_backward(int64_t clients, int threads, const NormBackward<T>& p) {
  const NormShape& s = p.shape;
  parallel(worth(threads, clients, elements_of(clients, s)), clients, [&](int64_t k, int64_t last) {
    std::vector<T> pull(std::max(s.inner, s.channels / s.groups));
    Gathered to{std::vector<double>(s.channels), std::vector<double>(s.channels)};
    for (; k < last; ++k) backward_client(p, k, pull, to);
  });
}

template void group_norm(int64_t, int, const GroupNorm<float>&);
template void group_norm(int64_t, int, const GroupNorm<double>&);
template void group_norm_backward(int64_t, int, const NormBackward<float>&);
template void group_norm_backward(int64_t, int, const NormBackward<double>&);

}  // namespace fedfast
