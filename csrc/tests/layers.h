// What the unit tests of the layer operations share: blocks [K, n], and sizes to walk.
#pragma once

#include "images.h"
#include "tests/check.h"

namespace fedfast::tests {

// A layer's sums have up to a few hundred terms near 1.
template <typename T>
constexpr double kLayer = sizeof(T) == 4 ? 2e-4 : 1e-11;

// Each client's n numbers, with a gap between clients.
template <typename T>
Rows<T> block(int64_t clients, int64_t n, int seed) {
  return Rows<T>({clients, n, 1}, seed, 3);
}

// Calls test(clients, threads).
template <typename Test>
void each_crowd(const Test& test) {
  for (int64_t clients : {1, 3}) {
    for (int threads : kThreads) test(clients, threads);
  }
}

// found [K, n] = `expected(k, i)`.
template <typename T, typename Expected>
void expect_block(const char* what, const Rows<T>& found, int64_t clients, int64_t n,
                  const Expected& expected) {
  for (int64_t k = 0; k < clients; ++k) {
    for (int64_t i = 0; i < n; ++i) expect(what, found.at(k, i), expected(k, i), kLayer<T>);
  }
}

}  // namespace fedfast::tests
