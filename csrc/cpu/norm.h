// Sums and affine passes over contiguous numbers, in one order, shared by the normalisations.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "images.h"

namespace fedfast {

struct Moments {
  double mean, variance;  // biased
};

// sum of x, and of (x - mean)^2.
template <typename T>
double norm_sum(const T* x, int64_t n);
template <typename T>
double norm_squares(const T* x, double mean, int64_t n);

// sum of a, and of a * (x - mean) * rstd.
struct Pulls {
  double plain = 0, along = 0;
};
template <typename T>
Pulls norm_pulls(const T* a, const T* x, T mean, T rstd, int64_t n);

// out = (x - mean) * scale + shift.
template <typename T>
void norm_apply(const T* x, T mean, T scale, T shift, T* out, int64_t n);

// dx = scale * (dout - plain - (x - mean) * rstd * along).
template <typename T>
void norm_pull(const T* dout, const T* x, T mean, T rstd, T scale, T plain, T along, T* dx,
               int64_t n);

// to = beta * base + alpha * gradient for client k; nothing if there is no `to`.
template <typename T>
void norm_fold(const NormBackward<T>& p, const Bank<T>& to, const Bank<const T>& base, int64_t k,
               const double* gradient, int64_t n) {
  if (!to) return;
  const T alpha = p.alpha[k], beta = p.beta[k];
  for (int64_t i = 0; i < n; ++i) {
    const T scaled = alpha * static_cast<T>(gradient[i]);
    to.row(k)[i] = beta == 0 ? scaled : beta * base.row(k)[i] + scaled;
  }
}

}  // namespace fedfast
