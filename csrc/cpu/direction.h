// a = sum_j c_j d_j of one client, a strip at a time, and the sum of its squares.
#pragma once

#include "fedfast.h"

namespace fedfast {

template <typename T>
struct Direction {
  int count;
  const T* d[kMaxTerms];
  T c[kMaxTerms];

  Direction(const Terms<T>& terms, int64_t k) : count(terms.count) {
    for (int j = 0; j < count; ++j) {
      d[j] = terms.d[j].row(k);
      c[j] = terms.c[j][k];
    }
  }
};

// a[i] = sum_j c_j d_j[start + i] for i < n, rounded in T after every operation.
template <typename T>
void combine(const Direction<T>& direction, int64_t start, int64_t n, T* a);

// sum_i a[i]^2 in float64, in 32 lanes.
template <typename T>
double sum_squares(const T* a, int64_t n);

}  // namespace fedfast
