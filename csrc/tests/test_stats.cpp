#include "tests/check.h"

namespace fedfast::tests {
namespace {

constexpr double kSums = 1e-11;  // sums are taken in double, whatever the rows are

template <typename T>
void pairs(const Shape& shape) {
  Rows<T> x(shape, 1, 5), y(shape, 2), ref = Rows<T>::shared(shape, 3);
  const int32_t offset[] = {0, static_cast<int32_t>(shape.size / 3)};
  const int32_t length[] = {offset[1], static_cast<int32_t>(shape.size - offset[1])};
  const bool is_weight[] = {true, true};
  std::vector<double> out(shape.clients * 2 * kStatColumns);
  stats(shape,
        Stats<T>{x.read(), y.read(), ref.read(), {}, {2, offset, length, is_weight}, out.data()});
  for (int64_t k = 0; k < shape.clients; ++k) {
    for (int l = 0; l < 2; ++l) {
      double sums[kStatColumns] = {};
      for (int64_t i = offset[l]; i < offset[l] + length[l]; ++i) {
        const double a = x.at(k, i) - ref.at(k, i), b = y.at(k, i);
        sums[0] += a * a, sums[1] += a * b, sums[2] += b * b, sums[3] += std::abs(a * b);
      }
      for (int c = 0; c < kStatColumns; ++c) {
        expect("stats", out[(k * 2 + l) * kStatColumns + c], sums[c], kSums);
      }
    }
  }
}

template <typename T>
void nonfinite(const Shape& shape) {
  Rows<T> x(shape, 1);
  x.memory.values.back() = std::numeric_limits<T>::quiet_NaN();
  const int32_t offset = 0, length = static_cast<int32_t>(shape.size);
  const bool is_weight = true;
  std::vector<double> out(shape.clients * kStatColumns);
  stats(shape, Stats<T>{x.read(), {}, {}, {}, {1, &offset, &length, &is_weight}, out.data()});
  for (int64_t k = 0; k < shape.clients; ++k) {
    expect("non-finite", out[k * kStatColumns + 4], k + 1 == shape.clients, 0);
  }
}

}  // namespace

void test_stats() {
  each_shape(pairs<float>);
  each_shape(pairs<double>);
  each_shape(nonfinite<float>);
  each_shape(nonfinite<double>);
}

}  // namespace fedfast::tests
