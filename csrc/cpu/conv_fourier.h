// Real Fourier transforms of sixteen vectors, lane by lane, and their transposes, over any vector
// type V (see conv_tile.h). Split into even and odd frequencies again and again (decimation in
// frequency); the odd ones of sixteen from sums and differences of x[n] and x[8 - n].
//
// A spectrum X[m] = sum over n of x[n] exp(-2 pi i n m / 16), m = 0 .. 8, lies as its real parts
// 0 .. 8, then its imaginary parts 1 .. 7; those of 0 and 8 are zero.
#pragma once

#include "cpu/conv_kernels.h"
#include "cpu/isa.h"

namespace fedfast {
namespace {

constexpr double kHalf = 0.70710678118654752440;                                  // sin(pi / 4)
constexpr double kCos8 = 0.92387953251128675613, kSin8 = 0.38268343236508977173;  // of pi / 8

// Even frequencies, from the sums a[n] = x[n] + x[n + 8].
template <typename V, typename R>
FEDFAST_TARGET FEDFAST_INLINE void even_spectrum(const R (&a)[8], R* y) {
  const R half = V::broadcast(kHalf);
  R c[4], d[4];
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    c[n] = V::add(a[n], a[n + 4]);
    d[n] = V::sub(a[n], a[n + 4]);
  }
  const R e = V::add(c[0], c[2]), f = V::add(c[1], c[3]);
  const R g = V::sub(d[1], d[3]), h = V::add(d[1], d[3]);
  y[0] = V::add(e, f);
  y[8] = V::sub(e, f);
  y[4] = V::sub(c[0], c[2]);
  y[8 + 4] = V::sub(c[3], c[1]);
  y[2] = V::fma(half, g, d[0]);
  y[6] = V::fnma(half, g, d[0]);
  y[8 + 2] = V::fnma(half, h, V::sub(V::zero(), d[2]));
  y[8 + 6] = V::fnma(half, h, d[2]);
}

// Odd frequencies, from the differences b[n] = x[n] - x[n + 8].
template <typename V, typename R>
FEDFAST_TARGET FEDFAST_INLINE void odd_spectrum(const R (&b)[8], R* y) {
  const R half = V::broadcast(kHalf), c = V::broadcast(kCos8), s = V::broadcast(kSin8);
  const R less_c = V::broadcast(-kCos8), less_s = V::broadcast(-kSin8);
  R p[4], q[4];
#pragma GCC unroll 4
  for (int n = 1; n < 4; ++n) {
    p[n] = V::sub(b[n], b[8 - n]);
    q[n] = V::add(b[n], b[8 - n]);
  }
  const R u = V::fma(half, p[2], b[0]), v = V::fnma(half, p[2], b[0]);
  const R one = V::fma(c, p[1], V::mul(s, p[3])), three = V::fma(s, p[1], V::mul(less_c, p[3]));
  y[1] = V::add(u, one);
  y[7] = V::sub(u, one);
  y[3] = V::add(v, three);
  y[5] = V::sub(v, three);
  const R w = V::fma(half, q[2], b[4]), z = V::fma(half, q[2], V::sub(V::zero(), b[4]));
  const R first = V::fma(less_s, q[1], V::mul(less_c, q[3]));
  const R third = V::fma(less_c, q[1], V::mul(s, q[3]));
  y[8 + 1] = V::sub(first, w);
  y[8 + 7] = V::add(first, w);
  y[8 + 3] = V::sub(third, z);
  y[8 + 5] = V::add(third, z);
}

// The spectrum y of x; where x is short its last eight are zero, and not read.
template <typename V, bool Short, typename R>
FEDFAST_TARGET FEDFAST_INLINE void spectrum(const R (&x)[16], R (&y)[16]) {
  R a[8], b[8];
#pragma GCC unroll 8
  for (int n = 0; n < 8; ++n) {
    a[n] = Short ? x[n] : V::add(x[n], x[n + 8]);
    b[n] = Short ? x[n] : V::sub(x[n], x[n + 8]);
  }
  even_spectrum<V>(a, y);
  odd_spectrum<V>(b, y);
}

template <typename V, typename R>
FEDFAST_TARGET FEDFAST_INLINE void from_even(const R* y, R (&a)[8]) {
  const R half = V::broadcast(kHalf), less_half = V::broadcast(-kHalf);
  const R e = V::add(y[0], y[8]), f = V::sub(y[0], y[8]);
  const R g = V::sub(y[2], y[6]), h = V::add(y[8 + 2], y[8 + 6]);
  const R c[4] = {V::add(e, y[4]), V::sub(f, y[8 + 4]), V::sub(e, y[4]), V::add(f, y[8 + 4])};
  const R d[4] = {V::add(y[2], y[6]), V::mul(half, V::sub(g, h)), V::sub(y[8 + 6], y[8 + 2]),
                  V::mul(less_half, V::add(g, h))};
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    a[n] = V::add(c[n], d[n]);
    a[n + 4] = V::sub(c[n], d[n]);
  }
}

template <typename V, typename R>
FEDFAST_TARGET FEDFAST_INLINE void from_odd(const R* y, R (&b)[8]) {
  const R half = V::broadcast(kHalf), c = V::broadcast(kCos8), s = V::broadcast(kSin8);
  const R less_c = V::broadcast(-kCos8), less_s = V::broadcast(-kSin8);
  const R u = V::add(y[1], y[7]), one = V::sub(y[1], y[7]);
  const R v = V::add(y[3], y[5]), three = V::sub(y[3], y[5]);
  const R w = V::sub(y[8 + 7], y[8 + 1]), first = V::add(y[8 + 1], y[8 + 7]);
  const R z = V::sub(y[8 + 5], y[8 + 3]), third = V::add(y[8 + 3], y[8 + 5]);
  const R p[4] = {V::zero(), V::fma(c, one, V::mul(s, three)), V::mul(half, V::sub(u, v)),
                  V::fma(s, one, V::mul(less_c, three))};
  const R q[4] = {V::zero(), V::fma(less_s, first, V::mul(less_c, third)),
                  V::mul(half, V::add(w, z)), V::fma(less_c, first, V::mul(s, third))};
  b[0] = V::add(u, v);
  b[4] = V::sub(w, z);
#pragma GCC unroll 4
  for (int n = 1; n < 4; ++n) {
    b[n] = V::add(q[n], p[n]);
    b[8 - n] = V::sub(q[n], p[n]);
  }
}

// x[n] = sum over m = 0 .. 8 of Re(X[m] exp(2 pi i n m / 16)), the transpose of `spectrum`; only
// the first eight where x is short.
template <typename V, bool Short, typename R>
FEDFAST_TARGET FEDFAST_INLINE void from_spectrum(const R (&y)[16], R (&x)[16]) {
  R a[8], b[8];
  from_even<V>(y, a);
  from_odd<V>(y, b);
#pragma GCC unroll 8
  for (int n = 0; n < 8; ++n) {
    x[n] = V::add(a[n], b[n]);
    if (!Short) x[n + 8] = V::sub(a[n], b[n]);
  }
}

}  // namespace
}  // namespace fedfast
