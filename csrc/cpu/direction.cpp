#include "cpu/direction.h"

#include "cpu/isa.h"

namespace fedfast {
namespace {

template <typename T, int J>
inline void combine_count(const Direction<T>& direction, int64_t start, int64_t n, T* a) {
  const T* d[J];
  T c[J];
  for (int j = 0; j < J; ++j) {
    d[j] = direction.d[j] + start;
    c[j] = direction.c[j];
  }
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    for (int j = 0; j < J; ++j) fetch_ahead(d[j] + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      T sum = c[0] * d[0][i];
      for (int j = 1; j < J; ++j) sum = sum + c[j] * d[j][i];
      a[i] = sum;
    }
  }
}

constexpr int kLanes = 32;

}  // namespace

template <typename T>
FEDFAST_CLONES void combine(const Direction<T>& direction, int64_t start, int64_t n, T* a) {
  switch (direction.count) {
    case 1:
      return combine_count<T, 1>(direction, start, n, a);
    case 2:
      return combine_count<T, 2>(direction, start, n, a);
    case 3:
      return combine_count<T, 3>(direction, start, n, a);
    case 4:
      return combine_count<T, 4>(direction, start, n, a);
    case 5:
      return combine_count<T, 5>(direction, start, n, a);
    case 6:
      return combine_count<T, 6>(direction, start, n, a);
    case 7:
      return combine_count<T, 7>(direction, start, n, a);
    default:
      return combine_count<T, 8>(direction, start, n, a);
  }
}

template <typename T>
FEDFAST_CLONES double sum_squares(const T* a, int64_t n) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      const double x = a[i + j];
      lane[j] += x * x;
    }
  }
  for (int j = 0; i + j < n; ++j) {
    const double x = a[i + j];
    lane[j] += x * x;
  }
  double sum = 0;
  for (int j = 0; j < kLanes; ++j) sum += lane[j];
  return sum;
}

template void combine(const Direction<float>&, int64_t, int64_t, float*);
template void combine(const Direction<double>&, int64_t, int64_t, double*);
template double sum_squares(const float*, int64_t);
template double sum_squares(const double*, int64_t);

}  // namespace fedfast
