// Naive loops over images, in double: what the operations on images are compared with.
#pragma once

#include "images.h"
#include "tests/check.h"

namespace fedfast::tests {

// Each client's numbers, one client after another with a gap between them.
template <typename T>
Rows<T> rows_of(int64_t clients, int64_t size, int seed) {
  return Rows<T>({clients, size, 1}, seed, 3);
}

// Calls body(row of the image, column, tap) for what a window sees at result (y, x).
template <typename Body>
void each_pixel(const Window& w, int64_t y, int64_t x, const Body& body) {
  for (int64_t tap = 0; tap < w.taps(); ++tap) {
    const int64_t row = y * w.sh - w.ph + tap / w.kw * w.dh;
    const int64_t column = x * w.sw - w.pw + tap % w.kw * w.dw;
    if (row >= 0 && row < w.height && column >= 0 && column < w.width) body(row, column, tap);
  }
}

// Calls body(y, x) for every result of a plane.
template <typename Body>
void each_result(const Window& w, const Body& body) {
  for (int64_t y = 0; y < w.out_height; ++y) {
    for (int64_t x = 0; x < w.out_width; ++x) body(y, x);
  }
}

inline Window window_of(int64_t height, int64_t width, int64_t kh, int64_t kw, int64_t stride,
                        int64_t padding, int64_t dilation = 1) {
  const auto results = [&](int64_t size, int64_t taps) {
    return (size + 2 * padding - dilation * (taps - 1) - 1) / stride + 1;
  };
  return {height,
          width,
          results(height, kh),
          results(width, kw),
          kh,
          kw,
          stride,
          stride,
          padding,
          padding,
          dilation,
          dilation};
}

}  // namespace fedfast::tests
