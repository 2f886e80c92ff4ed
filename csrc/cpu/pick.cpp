// Elements at given places of windows side by side: a gather whose windows move along rows.
#include <algorithm>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "images.h"

namespace fedfast {
namespace {

// A row of results. `wide` is the window's width: among constants taps would be branches.
template <typename T>
FEDFAST_CLONES void pick_row(const T* x, int64_t width, int32_t wide, const uint8_t* tap, int64_t n,
                             T* out) {
  for (int64_t i = 0; i < n; ++i) {
    const int32_t t = tap[i], down = t / wide;
    out[i] = x[down * width + i * wide + (t - down * wide)];
  }
}

// N windows of 2 x 2, the commonest by far: all four elements are read, and lanes choose.
template <typename T, int N>
FEDFAST_INLINE void pick_block(const T* top, const T* bottom, const uint8_t* tap, T* out) {
  int32_t places[N];  // apart from the bytes, which might alias everything
  FEDFAST_LANES
  for (int i = 0; i < N; ++i) places[i] = tap[i];
  FEDFAST_LANES
  for (int i = 0; i < N; ++i) {
    const T others[] = {top[2 * i + 1], bottom[2 * i], bottom[2 * i + 1]};
    T found = top[2 * i];
    for (int j = 0; j < 3; ++j) found = places[i] == j + 1 ? others[j] : found;
    out[i] = found;
  }
}

// A row's last block overlaps the one before and writes the same again.
template <typename T, int N>
FEDFAST_CLONES void pick_twos(const Window& w, const T* x, const uint8_t* tap, T* out) {
  for (int64_t y = 0; y < w.out_height; ++y, x += 2 * w.width) {
    for (int64_t b = 0; b < w.out_width; b += N) {
      const int64_t i = std::min<int64_t>(b, w.out_width - N), at = y * w.out_width + i;
      pick_block<T, N>(x + 2 * i, x + 2 * i + w.width, tap + at, out + at);
    }
  }
}

template <typename T>
void pick_plane(const Window& w, const T* x, const uint8_t* tap, T* out) {
  if (w.kh == 2 && w.kw == 2 && w.out_width >= 4) {
    if (w.out_width >= 16) return pick_twos<T, 16>(w, x, tap, out);
    if (w.out_width >= 8) return pick_twos<T, 8>(w, x, tap, out);
    return pick_twos<T, 4>(w, x, tap, out);
  }
  for (int64_t y = 0; y < w.out_height; ++y, x += w.kh * w.width) {
    const int64_t at = y * w.out_width;
    pick_row(x, w.width, static_cast<int32_t>(w.kw), tap + at, w.out_width, out + at);
  }
}

}  // namespace

template <typename T>
void pick(int64_t clients, int threads, const Pick<T>& p) {
  const Window& w = p.window;
  threads = worth(threads, clients, clients * p.planes * w.pixels());
  parallel(threads, clients, [&](int64_t k, int64_t last) {
    for (int64_t plane = k * p.planes; plane < last * p.planes; ++plane) {
      const int64_t client = plane / p.planes, own = plane % p.planes, at = own * w.spots();
      pick_plane(w, p.x.row(client) + own * w.pixels(), p.tap.row(client) + at,
                 p.out.row(client) + at);
    }
  });
}

template void pick(int64_t, int, const Pick<float>&);
template void pick(int64_t, int, const Pick<double>&);

}  // namespace fedfast
