#include "tests/check.h"

namespace fedfast::tests {
namespace {

constexpr double kBound = 1e-6;  // of |d_i| |d_j|, for rows of float

template <typename T>
void updates(const Shape& shape) {
  Rows<T> rows(shape, 1, 5), base = Rows<T>::shared(shape, 2);
  const int32_t offset[] = {0, static_cast<int32_t>(shape.size / 3)};
  const int32_t length[] = {offset[1], static_cast<int32_t>(shape.size - offset[1])};
  const bool is_weight[] = {true, true};
  const int64_t clients = shape.clients;
  std::vector<double> out(2 * clients * clients);
  gram(shape, Gram<T>{rows.read(), base.read(), {2, offset, length, is_weight}, out.data()});
  for (int64_t entry = 0; entry < 2 * clients * clients; ++entry) {
    const int64_t l = entry / (clients * clients), i = entry / clients % clients,
                  j = entry % clients;
    double product = 0, left = 0, right = 0;
    for (int64_t c = offset[l]; c < offset[l] + length[l]; ++c) {
      const double a = rows.at(i, c) - base.at(i, c), b = rows.at(j, c) - base.at(j, c);
      product += a * b, left += a * a, right += b * b;
    }
    const double bound = (sizeof(T) == 4 ? kBound : 1e-13) * std::sqrt(left * right);
    expect("gram", (out[entry] - product) / std::max(bound, 1e-300), 0, 1);
    expect("symmetry", out[entry] - out[(l * clients + j) * clients + i], 0, 0);
  }
}

}  // namespace

void test_gram() {
  each_shape(updates<float>);
  each_shape(updates<double>);
}

}  // namespace fedfast::tests
