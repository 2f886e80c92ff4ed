// Exact-sized random operands and comparisons for the unit tests; expected values come from naive
// loops in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "fedfast.h"

namespace fedfast::tests {

constexpr int64_t kSizes[] = {1, 31, 33, 1023, 4097, 12345};
constexpr int64_t kClients[] = {1, 3, 7};
constexpr int kThreads[] = {1, 3};

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 4e-6 : 1e-12;

// Fails the program unless |found - expected| <= tolerance max(1, |expected|).
inline void expect(const char* what, double found, double expected, double tolerance) {
  if (std::abs(found - expected) <= tolerance * std::max(1.0, std::abs(expected))) return;
  std::fprintf(stderr, "%s: expected %.17g, found %.17g\n", what, expected, found);
  std::exit(1);
}

// Memory that ends with its last element, so that AddressSanitizer sees a step too far.
template <typename T>
struct Memory {
  std::vector<T> values;

  Memory(int64_t count, int seed) : values(count) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    for (T& value : values) value = static_cast<T>(normal(random));
  }
  T* data() { return values.data(); }
  double operator[](int64_t i) const { return values[i]; }
};

// [K, S] with `gap` unused elements between rows, or one shared row.
template <typename T>
struct Rows {
  int64_t stride;
  Memory<T> memory;

  Rows(const Shape& shape, int seed, int64_t gap = 0)
      : stride(shape.size + gap), memory((shape.clients - 1) * stride + shape.size, seed) {}

  static Rows shared(const Shape& shape, int seed) {
    Rows rows({1, shape.size, 1}, seed);
    rows.stride = 0;
    return rows;
  }
  Bank<T> bank() { return {memory.data(), stride}; }
  Bank<const T> read() { return {memory.data(), stride}; }
  double at(int64_t k, int64_t i) const { return memory[k * stride + i]; }
};

// Calls test(shape) for every size, number of clients and number of threads.
template <typename Test>
void each_shape(const Test& test) {
  for (int64_t size : kSizes) {
    for (int64_t clients : kClients) {
      for (int threads : kThreads) test(Shape{clients, size, threads});
    }
  }
}

void test_team();
void test_perturb();
void test_step();
void test_stats();
void test_aggregate();
void test_mix();
void test_adam();
void test_gram();
void test_sensitivity();
void test_philox();
void test_draws();
void test_linear();
void test_conv();
void test_conv_pool();
void test_pool();
void test_norm();
void test_loss();
void test_divergence();
void test_gaussian();
void test_gather();
void test_plan();

}  // namespace fedfast::tests
