// Pooling plane by plane: each tap of the window passes over a whole row of results.
#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/pool_halves.h"
#include "images.h"

namespace fedfast {
namespace {

// The results of a row whose window's column `tap` lies in the image.
struct Columns {
  int64_t start, stop, first;  // `first`: the image's column for result `start`
};

Columns columns_of(const Window& w, int64_t tap) {
  const int64_t offset = tap - w.pw;
  const int64_t start = offset >= 0 ? 0 : (-offset + w.sw - 1) / w.sw;
  const int64_t stop = offset >= w.width ? 0 : (w.width - 1 - offset) / w.sw + 1;
  return {start, std::max(start, std::min(stop, w.out_width)), start * w.sw + offset};
}

// Calls body(row of the image, columns, tap) for what each tap of result row y finds in the image.
template <typename Body>
FEDFAST_INLINE void each_tap(const Window& w, int64_t y, const Body& body) {
  for (int64_t ky = 0; ky < w.kh; ++ky) {
    const int64_t row = y * w.sh - w.ph + ky;
    if (row < 0 || row >= w.height) continue;
    for (int64_t kx = 0; kx < w.kw; ++kx) body(row, columns_of(w, kx));
  }
}

// NaN wins, as in torch; of equals the first.
template <typename T>
FEDFAST_INLINE bool wins(T v, T best) {
  return static_cast<bool>((v > best) | (v != v));
}

template <typename T>
FEDFAST_CLONES void take_larger(const T* x, int64_t step, int32_t at, int64_t n, T* best,
                                int32_t* where) {
  const auto s = static_cast<int32_t>(step);
  FEDFAST_INDEPENDENT
  for (int32_t i = 0; i < n; ++i) {
    const T v = x[i * s], old = best[i];
    const bool larger = wins(v, old);
    best[i] = larger ? v : old;
    where[i] = larger ? at + i * s : where[i];
  }
}

template <typename T>
void max_row(const Window& w, const T* x, int64_t y, T* best, int32_t* where) {
  std::fill_n(best, w.out_width, -std::numeric_limits<T>::infinity());
  const int64_t top = std::max<int64_t>(y * w.sh - w.ph, 0) * w.width;
  for (int64_t i = 0; i < w.out_width; ++i) {  // for windows of -inf
    where[i] = static_cast<int32_t>(top + std::max<int64_t>(i * w.sw - w.pw, 0));
  }
  each_tap(w, y, [&](int64_t row, const Columns& c) {
    const int64_t at = row * w.width + c.first;
    take_larger(x + at, w.sw, static_cast<int32_t>(at), c.stop - c.start, best + c.start,
                where + c.start);
  });
}

// How many of a window's taps lie in the image, along one side.
int64_t inside(int64_t start, int64_t taps, int64_t size) {
  return std::min(start + taps, size) - std::max<int64_t>(start, 0);
}

template <typename T>
T divisor(const Window& w, bool count_padding, int64_t y, int64_t x) {
  if (count_padding) return static_cast<T>(w.kh * w.kw);
  return static_cast<T>(inside(y * w.sh - w.ph, w.kh, w.height) *
                        inside(x * w.sw - w.pw, w.kw, w.width));
}

template <typename T>
FEDFAST_CLONES void mean_row(const Window& w, bool count_padding, const T* x, int64_t y, T* out) {
  std::fill_n(out, w.out_width, T{0});
  each_tap(w, y, [&](int64_t row, const Columns& c) {
    const T* from = x + row * w.width + c.first;
    for (int64_t i = c.start; i < c.stop; ++i) out[i] += from[(i - c.start) * w.sw];
  });
  for (int64_t i = 0; i < w.out_width; ++i) out[i] /= divisor<T>(w, count_padding, y, i);
}

template <typename T>
FEDFAST_CLONES void spread_row(const Window& w, bool count_padding, const T* dout, int64_t y,
                               T* dx) {
  each_tap(w, y, [&](int64_t row, const Columns& c) {
    T* to = dx + row * w.width + c.first;
    for (int64_t i = c.start; i < c.stop; ++i) {
      to[(i - c.start) * w.sw] += dout[i] / divisor<T>(w, count_padding, y, i);
    }
  });
}

template <typename T>
void max_plane(const Window& w, const T* x, T* out, int32_t* where) {
  if (halves(w)) return max_halves(w, x, out, where);
  for (int64_t y = 0; y < w.out_height; ++y) {
    max_row(w, x, y, out + y * w.out_width, where + y * w.out_width);
  }
}

// Some planes of client k.
template <typename T>
void pool_planes(const Pool<T>& p, int64_t k, const Range& planes) {
  const Window& w = p.window;
  std::vector<int32_t> unasked(p.argmax ? 0 : w.spots());
  for (int64_t plane = planes.start; plane < planes.stop; ++plane) {
    const T* x = p.x.row(k) + plane * w.pixels();
    T* out = p.out.row(k) + plane * w.spots();
    if (p.kind == PoolKind::max) {
      max_plane(w, x, out, p.argmax ? p.argmax.row(k) + plane * w.spots() : unasked.data());
      continue;
    }
    for (int64_t y = 0; y < w.out_height; ++y) {
      mean_row(w, p.count_padding, x, y, out + y * w.out_width);
    }
  }
}

template <typename T>
void max_plane_backward(const Window& w, const T* dout, const int32_t* at, T* dx) {
  if (halves(w)) return max_halves_backward(w, dout, at, dx);
  std::fill_n(dx, w.pixels(), T{0});
  for (int64_t i = 0; i < w.spots(); ++i) dx[at[i]] += dout[i];
}

template <typename T>
void pool_backward_planes(const PoolBackward<T>& p, int64_t k, const Range& planes) {
  const Window& w = p.window;
  for (int64_t plane = planes.start; plane < planes.stop; ++plane) {
    T* dx = p.dx.row(k) + plane * w.pixels();
    const T* dout = p.dout.row(k) + plane * w.spots();
    if (p.kind == PoolKind::max) {
      max_plane_backward(w, dout, p.argmax.row(k) + plane * w.spots(), dx);
      continue;
    }
    std::fill_n(dx, w.pixels(), T{0});
    for (int64_t y = 0; y < w.out_height; ++y) {
      spread_row(w, p.count_padding, dout + y * w.out_width, y, dx);
    }
  }
}

// Calls body(client, some of its planes).
template <typename Body>
void each_part(int threads, int64_t clients, int64_t planes, const Body& body) {
  const int64_t parts = parts_for(threads, clients, planes);
  parallel(threads, clients * parts, [&](int64_t i, int64_t last) {
    for (; i < last; ++i) body(i / parts, part_of(planes, 1, i % parts, parts));
  });
}

// Start of nearly equal window i of `count` over `size`, and one past its end.
int64_t start_of(int64_t i, int64_t count, int64_t size) { return i * size / count; }
int64_t stop_of(int64_t i, int64_t count, int64_t size) {
  return ((i + 1) * size + count - 1) / count;
}

// Calls body(spot, row, first column, columns, elements of the window).
template <typename Body>
void each_adaptive_row(const Window& w, const Body& body) {
  for (int64_t y = 0; y < w.out_height; ++y) {
    const int64_t top = start_of(y, w.out_height, w.height);
    const int64_t bottom = stop_of(y, w.out_height, w.height);
    for (int64_t x = 0; x < w.out_width; ++x) {
      const int64_t left = start_of(x, w.out_width, w.width);
      const int64_t columns = stop_of(x, w.out_width, w.width) - left;
      for (int64_t row = top; row < bottom; ++row) {
        body(y * w.out_width + x, row * w.width + left, columns, (bottom - top) * columns);
      }
    }
  }
}

}  // namespace

template <typename T>
void pool(int64_t clients, int threads, const Pool<T>& p) {
  const int64_t work = clients * p.planes * p.window.spots() * p.window.taps();
  each_part(worth(threads, clients * p.planes, work), clients, p.planes,
            [&](int64_t k, const Range& planes) { pool_planes(p, k, planes); });
}

template <typename T>
void pool_backward(int64_t clients, int threads, const PoolBackward<T>& p) {
  const int64_t work = clients * p.planes * p.window.spots() * p.window.taps();
  each_part(worth(threads, clients * p.planes, work), clients, p.planes,
            [&](int64_t k, const Range& planes) { pool_backward_planes(p, k, planes); });
}

template <typename T>
void adaptive_avg(int64_t clients, int threads, const AdaptivePool<T>& p) {
  const Window& w = p.window;
  parallel(worth(threads, clients, clients * p.planes * w.pixels()), clients,
           [&](int64_t k, int64_t last) {
             for (int64_t plane = k * p.planes; plane < last * p.planes; ++plane) {
               const T* x = p.from.row(plane / p.planes) + plane % p.planes * w.pixels();
               T* out = p.to.row(plane / p.planes) + plane % p.planes * w.spots();
               std::fill_n(out, w.spots(), T{0});
               each_adaptive_row(w, [&](int64_t spot, int64_t at, int64_t n, int64_t elements) {
                 double sum = 0;
                 for (int64_t i = 0; i < n; ++i) sum += x[at + i];
                 out[spot] += static_cast<T>(sum / elements);
               });
             }
           });
}

template <typename T>
void adaptive_avg_backward(int64_t clients, int threads, const AdaptivePool<T>& p) {
  const Window& w = p.window;
  parallel(worth(threads, clients, clients * p.planes * w.pixels()), clients,
           [&](int64_t k, int64_t last) {
             for (int64_t plane = k * p.planes; plane < last * p.planes; ++plane) {
               const T* dout = p.from.row(plane / p.planes) + plane % p.planes * w.spots();
               T* dx = p.to.row(plane / p.planes) + plane % p.planes * w.pixels();
               std::fill_n(dx, w.pixels(), T{0});
               each_adaptive_row(w, [&](int64_t spot, int64_t at, int64_t n, int64_t elements) {
                 const T part = dout[spot] / static_cast<T>(elements);
                 for (int64_t i = 0; i < n; ++i) dx[at + i] += part;
               });
             }
           });
}

template void pool(int64_t, int, const Pool<float>&);
template void pool(int64_t, int, const Pool<double>&);
template void pool_backward(int64_t, int, const PoolBackward<float>&);
template void pool_backward(int64_t, int, const PoolBackward<double>&);
template void adaptive_avg(int64_t, int, const AdaptivePool<float>&);
template void adaptive_avg(int64_t, int, const AdaptivePool<double>&);
template void adaptive_avg_backward(int64_t, int, const AdaptivePool<float>&);
template void adaptive_avg_backward(int64_t, int, const AdaptivePool<double>&);

}  // namespace fedfast
