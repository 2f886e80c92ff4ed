#include "cpu/norm.h"

namespace fedfast {
namespace {

constexpr int kLanes = 16;

inline double sum_lanes(const double* lane) {
  double sum = 0;
  for (int j = 0; j < kLanes; ++j) sum += lane[j];
  return sum;
}

}  // namespace

template <typename T>
FEDFAST_CLONES double norm_sum(const T* x, int64_t n) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) lane[j] += static_cast<double>(x[i + j]);
  }
  for (int j = 0; i + j < n; ++j) lane[j] += static_cast<double>(x[i + j]);
  return sum_lanes(lane);
}

template <typename T>
FEDFAST_CLONES double norm_squares(const T* x, double mean, int64_t n) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      const double d = static_cast<double>(x[i + j]) - mean;
      lane[j] += d * d;
    }
  }
  for (int j = 0; i + j < n; ++j) {
    const double d = static_cast<double>(x[i + j]) - mean;
    lane[j] += d * d;
  }
  return sum_lanes(lane);
}

template <typename T>
FEDFAST_CLONES Pulls norm_pulls(const T* a, const T* x, T mean, T rstd, int64_t n) {
  double plain[kLanes] = {}, along[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) {
      plain[j] += static_cast<double>(a[i + j]);
      along[j] += static_cast<double>(a[i + j] * ((x[i + j] - mean) * rstd));
    }
  }
  for (int j = 0; i + j < n; ++j) {
    plain[j] += static_cast<double>(a[i + j]);
    along[j] += static_cast<double>(a[i + j] * ((x[i + j] - mean) * rstd));
  }
  return {sum_lanes(plain), sum_lanes(along)};
}

template <typename T>
FEDFAST_CLONES void norm_apply(const T* x, T mean, T scale, T shift, T* out, int64_t n) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale + shift;
}

template <typename T>
FEDFAST_CLONES void norm_pull(const T* dout, const T* x, T mean, T rstd, T scale, T plain, T along,
                              T* dx, int64_t n) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    dx[i] = scale * (dout[i] - plain - (x[i] - mean) * rstd * along);
  }
}

#define FEDFAST_INSTANTIATE(T)                                  \
  template double norm_sum(const T*, int64_t);                  \
  template double norm_squares(const T*, double, int64_t);      \
  template Pulls norm_pulls(const T*, const T*, T, T, int64_t); \
  template void norm_apply(const T*, T, T, T, T*, int64_t);     \
  template void norm_pull(const T*, const T*, T, T, T, T, T, T*, int64_t);
FEDFAST_INSTANTIATE(float)
FEDFAST_INSTANTIATE(double)
#undef FEDFAST_INSTANTIATE

}  // namespace fedfast
