#include "rounded_rows.h"

#include <cstring>

#include "cpu/isa.h"

namespace fedfast {
namespace {

constexpr uint32_t kInfinity = 0x7f800000, kMagnitude = 0x7fffffff, kHalf = 0x7fff;
constexpr uint16_t kNan = 0x7fc0;

FEDFAST_INLINE uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t even = kHalf + ((bits >> 16) & 1);
  const bool nan = (bits & kMagnitude) > kInfinity;
  return nan ? kNan : static_cast<uint16_t>((bits + even) >> 16);
}

FEDFAST_INLINE float widened(uint16_t value) {
  const uint32_t bits = uint32_t{value} << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

FEDFAST_CLONES void round_row(const float* from, uint16_t* to, int64_t width) {
  for (int64_t begin = 0; begin < width; begin += kChunk) {
    fetch_ahead(from + begin);
    const int64_t end = std::min(begin + kChunk, width);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) to[i] = rounded(from[i]);
  }
}

FEDFAST_CLONES void widen_row(const uint16_t* from, float* to, int64_t width) {
  for (int64_t begin = 0; begin < width; begin += kChunk) {
    fetch_ahead(from + begin);
    const int64_t end = std::min(begin + kChunk, width);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) to[i] = widened(from[i]);
  }
}

}  // namespace

void round_rows(const SomeRows<const float>& from, const SomeRows<uint16_t>& to, int64_t n,
                int64_t width) {
  for (int64_t i = 0; i < n; ++i) round_row(from.row(i), to.row(i), width);
}

void widen_rows(const SomeRows<const uint16_t>& from, const SomeRows<float>& to, int64_t n,
                int64_t width) {
  for (int64_t i = 0; i < n; ++i) widen_row(from.row(i), to.row(i), width);
}

}  // namespace fedfast
