// Rows of numbers in bfloat16 beside rows in float32: copied, widened and rounded in one pass.
#pragma once

#include <cstdint>

namespace fedfast {

// Numbers [places, width] of T: row r begins at data + r * stride, rows [n] says which.
template <typename T>
struct SomeRows {
  T* data = nullptr;
  int64_t stride = 0;
  const int64_t* rows = nullptr;

  T* row(int64_t i) const { return data + rows[i] * stride; }
};

// to.row(i) = from.row(i), rounded to the nearest bfloat16, ties to even; a NaN becomes 0x7fc0.
void round_rows(const SomeRows<const float>& from, const SomeRows<uint16_t>& to, int64_t n,
                int64_t width);

// to.row(i) = from.row(i), exactly.
void widen_rows(const SomeRows<const uint16_t>& from, const SomeRows<float>& to, int64_t n,
                int64_t width);

}  // namespace fedfast
