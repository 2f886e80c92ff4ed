#include "cpu/add_rows.h"

#include <algorithm>

#include "cpu/isa.h"

namespace fedfast {
namespace {

template <typename T>
FEDFAST_CLONES void add_all(const T* d, int64_t rows, int64_t columns, T alpha, T beta,
                            const T* base, T* out) {
  constexpr int64_t kWidth = 64;
  for (int64_t begin = 0; begin < columns; begin += kWidth) {
    const int64_t width = std::min(kWidth, columns - begin);
    T sum[kWidth] = {};
    for (int64_t b = 0; b < rows; ++b) {
      const T* row = d + b * columns + begin;
      for (int64_t i = 0; i < width; ++i) sum[i] += row[i];
    }
    for (int64_t i = 0; i < width; ++i) {
      const T step = alpha * sum[i];
      out[begin + i] = beta == 0 ? step : beta * base[begin + i] + step;
    }
  }
}

}  // namespace

template <typename T>
void add_rows(const T* d, int64_t rows, int64_t columns, T alpha, T beta, const T* base, T* out) {
  add_all(d, rows, columns, alpha, beta, base, out);
}

template void add_rows(const float*, int64_t, int64_t, float, float, const float*, float*);
template void add_rows(const double*, int64_t, int64_t, double, double, const double*, double*);

}  // namespace fedfast
