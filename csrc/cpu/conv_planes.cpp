#include "cpu/conv_planes.h"

#include <cmath>

namespace fedfast {
namespace {

constexpr int kLanes = 16;

template <typename T>
FEDFAST_CLONES void add_bias(T* plane, T bias, int64_t size) {
  for (int64_t i = 0; i < size; ++i) plane[i] += bias;
}

template <typename T>
FEDFAST_CLONES void add_bias_relu(T* plane, T bias, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    const T x = plane[i] + bias;
    plane[i] = x < 0 ? T{0} : x;  // NaN stays
  }
}

template <typename T>
void add_bias_tanh(T* plane, T bias, int64_t size) {
  for (int64_t i = 0; i < size; ++i) plane[i] = std::tanh(plane[i] + bias);
}

template <typename T>
FEDFAST_CLONES void undo_relu(T* dout, const T* out, int64_t size) {
  for (int64_t i = 0; i < size; ++i) dout[i] = out[i] <= 0 ? T{0} : dout[i];
}

template <typename T>
FEDFAST_CLONES void undo_tanh(T* dout, const T* out, int64_t size) {
  for (int64_t i = 0; i < size; ++i) dout[i] *= T{1} - out[i] * out[i];
}

template <typename T>
FEDFAST_CLONES double sum_of(const T* x, int64_t size) {
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    FEDFAST_LANES
    for (int j = 0; j < kLanes; ++j) lane[j] += x[i + j];
  }
  double sum = 0;
  for (; i < size; ++i) sum += x[i];
  for (int j = 0; j < kLanes; ++j) sum += lane[j];
  return sum;
}

}  // namespace

template <typename T>
void finish(T* planes, const T* bias, int64_t channels, int64_t size, Act act) {
  if (bias == nullptr && act == Act::none) return;
  const auto add = act == Act::none   ? add_bias<T>
                   : act == Act::relu ? add_bias_relu<T>
                                      : add_bias_tanh<T>;
  for (int64_t c = 0; c < channels; ++c) add(planes + c * size, bias ? bias[c] : T{0}, size);
}

template <typename T>
void undo_act(T* dout, const T* out, int64_t size, Act act) {
  if (act == Act::relu) undo_relu(dout, out, size);
  if (act == Act::tanh) undo_tanh(dout, out, size);
}

template <typename T>
double plane_sum(const T* plane, int64_t size) {
  return sum_of(plane, size);
}

template void finish(float*, const float*, int64_t, int64_t, Act);
template void finish(double*, const double*, int64_t, int64_t, Act);
template void undo_act(float*, const float*, int64_t, Act);
template void undo_act(double*, const double*, int64_t, Act);
template double plane_sum(const float*, int64_t);
template double plane_sum(const double*, int64_t);

}  // namespace fedfast
