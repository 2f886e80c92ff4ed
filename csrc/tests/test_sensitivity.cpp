#include <limits>

#include "tests/check.h"

namespace fedfast::tests {
namespace {

constexpr double kSums = 1e-11;  // sums are taken in double, whatever the rows are

struct Unit {
  double low = std::numeric_limits<double>::infinity(), high = -low;

  template <typename T>
  Unit(const Rows<T>& rows, int64_t k, int64_t start, int64_t stop) {
    for (int64_t i = start; i < stop; ++i) {
      low = std::min(low, rows.at(k, i));
      high = std::max(high, rows.at(k, i));
    }
  }
  double operator()(double v) const { return (v - low) / (high - low); }
};

template <typename T>
void scores(const Shape& shape, bool normalize) {
  Rows<T> x(shape, 1, 5), y = Rows<T>::shared(shape, 2);
  const int32_t offset[] = {0, static_cast<int32_t>(shape.size / 3)};
  const int32_t length[] = {offset[1], static_cast<int32_t>(shape.size - offset[1])};
  const bool is_weight[] = {true, true};
  std::vector<double> out(shape.clients * 2);
  sensitivity(
      shape,
      Sensitivity<T>{x.read(), y.read(), {2, offset, length, is_weight}, normalize, out.data()});
  for (int64_t k = 0; k < shape.clients; ++k) {
    for (int l = 0; l < 2; ++l) {
      const int64_t start = offset[l], stop = start + length[l];
      const Unit of_x(x, k, start, stop), of_y(y, k, start, stop);
      double sum = 0;
      for (int64_t i = start; i < stop; ++i) {
        const double a = x.at(k, i), b = y.at(k, i);
        sum += std::pow(normalize ? of_x(a) - of_y(b) : a - b, 2);
      }
      const double mean = sum / length[l], found = out[k * 2 + l];
      if (std::isnan(mean)) {
        expect("no score", std::isnan(found), 1, 0);
      } else {
        expect("sensitivity", found, mean, kSums);
      }
    }
  }
}

template <typename T>
void both(const Shape& shape) {
  scores<T>(shape, false);
  scores<T>(shape, true);
}

}  // namespace

void test_sensitivity() {
  each_shape(both<float>);
  each_shape(both<double>);
}

}  // namespace fedfast::tests
