// exp and its relatives for float, written so that loops over them become vector code with the same
// bits on every instruction set; for double, the C library's.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

namespace fedfast {

template <typename To, typename From>
FEDFAST_INLINE To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// exp(x) for x <= 0, within 2 units in the last place; 0 where it would be denormal.
// Cephes: 2^n times a polynomial of what is left, |r| <= log(2) / 2.
FEDFAST_INLINE float exp_down(float x) {
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  const float t = x * 1.44269504088896341f + kRound;
  const float n = t - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.f;
  const float y = p * bits<float>((bits<uint32_t>(t) << 23) + 0x3f800000u);
  return x < -87.33f ? 0.f : y;
}
FEDFAST_INLINE double exp_down(double x) { return std::exp(x); }

// Cephes: a polynomial near 0, where 1 - 2 / (exp(2 |x|) + 1) would cancel.
FEDFAST_INLINE float tanh_of(float x) {
  const float z = x * x, t = exp_down(-2 * std::fabs(x));
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x, far = std::copysign((1 - t) / (1 + t), x);
  return std::fabs(x) < 0.625f ? near : far;
}
FEDFAST_INLINE double tanh_of(double x) { return std::tanh(x); }

template <typename T>
FEDFAST_INLINE T sigmoid_of(T x) {
  const T t = exp_down(-std::fabs(x));
  return (x < 0 ? t : T{1}) / (1 + t);
}

// The normal distribution function.
template <typename T>
FEDFAST_INLINE T phi_of(T x) {
  return T{0.5} * (1 + std::erf(x * T{0.70710678118654752440}));
}

// Its density.
template <typename T>
FEDFAST_INLINE T density_of(T x) {
  return T{0.39894228040143267794} * exp_down(T{-0.5} * x * x);
}

// NaN wins whichever side it is on.
template <typename T>
T largest(const T* row, int64_t n) {
  T top = row[0];
  for (int64_t i = 1; i < n; ++i) top = row[i] > top || row[i] != row[i] ? row[i] : top;
  return top;
}

template <typename T>
double sum_from(double sum, const T* row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum += row[i];
  return sum;
}

}  // namespace fedfast
