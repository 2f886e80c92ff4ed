// Rows are worked on in blocks of a fixed length, a vector; the last block overlaps the one before
// and writes the same again, so that short rows need no loop over single elements.
#include "cpu/pool_halves.h"

#include <algorithm>
#include <type_traits>

#include "cpu/isa.h"

namespace fedfast {
namespace {

template <typename T, int N>
FEDFAST_INLINE void larger(const T* top, const T* bottom, int32_t at, int32_t width, T* out,
                           int32_t* where) {
  FEDFAST_LANES
  for (int i = 0; i < N; ++i) {
    T best = top[2 * i];
    int32_t place = at + 2 * i;
    const T others[] = {top[2 * i + 1], bottom[2 * i], bottom[2 * i + 1]};
    const int32_t places[] = {place + 1, place + width, place + width + 1};
    for (int j = 0; j < 3; ++j) {
      const bool wins = (others[j] > best) | (others[j] != others[j]);
      best = wins ? others[j] : best;
      place = wins ? places[j] : place;
    }
    out[i] = best;
    where[i] = place;
  }
}

template <typename T, int N>
FEDFAST_INLINE void give_back(const T* dout, const int32_t* where, int32_t at, int32_t width,
                              T* top, T* bottom) {
  FEDFAST_LANES
  for (int i = 0; i < N; ++i) {
    const int32_t place = where[i] - at - 2 * i;
    top[2 * i] = place == 0 ? dout[i] : T{0};
    top[2 * i + 1] = place == 1 ? dout[i] : T{0};
    bottom[2 * i] = place == width ? dout[i] : T{0};
    bottom[2 * i + 1] = place == width + 1 ? dout[i] : T{0};
  }
}

template <typename T, int N>
FEDFAST_CLONES void forward(const Window& w, const T* x, T* out, int32_t* where) {
  const auto width = static_cast<int32_t>(w.width);
  for (int64_t y = 0; y < w.out_height; ++y, out += w.out_width, where += w.out_width) {
    const int64_t row = 2 * y * w.width;
    for (int64_t b = 0; b < w.out_width; b += N) {
      const int64_t i = std::min<int64_t>(b, w.out_width - N), at = row + 2 * i;
      larger<T, N>(x + at, x + at + w.width, static_cast<int32_t>(at), width, out + i, where + i);
    }
  }
}

template <typename T, int N>
FEDFAST_CLONES void backward(const Window& w, const T* dout, const int32_t* where, T* dx) {
  const auto width = static_cast<int32_t>(w.width);
  for (int64_t y = 0; y < w.out_height; ++y, dout += w.out_width, where += w.out_width) {
    const int64_t row = 2 * y * w.width;
    for (int64_t b = 0; b < w.out_width; b += N) {
      const int64_t i = std::min<int64_t>(b, w.out_width - N), at = row + 2 * i;
      give_back<T, N>(dout + i, where + i, static_cast<int32_t>(at), width, dx + at,
                      dx + at + w.width);
    }
  }
  std::fill(dx + 2 * w.out_height * w.width, dx + w.pixels(), T{0});
}

// Calls body with the longest block that fits a row.
template <typename Body>
void by_length(int64_t columns, const Body& body) {
  if (columns >= 16) return body(std::integral_constant<int, 16>());
  if (columns >= 8) return body(std::integral_constant<int, 8>());
  if (columns >= 4) return body(std::integral_constant<int, 4>());
  body(std::integral_constant<int, 1>());
}

}  // namespace

template <typename T>
void max_halves(const Window& w, const T* x, T* out, int32_t* where) {
  by_length(w.out_width, [&](auto n) { forward<T, decltype(n)::value>(w, x, out, where); });
}

template <typename T>
void max_halves_backward(const Window& w, const T* dout, const int32_t* where, T* dx) {
  by_length(w.out_width, [&](auto n) { backward<T, decltype(n)::value>(w, dout, where, dx); });
}

template void max_halves(const Window&, const float*, float*, int32_t*);
template void max_halves(const Window&, const double*, double*, int32_t*);
template void max_halves_backward(const Window&, const float*, const int32_t*, float*);
template void max_halves_backward(const Window&, const double*, const int32_t*, double*);

}  // namespace fedfast
