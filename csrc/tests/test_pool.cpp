#include "tests/naive.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kPlanesTogether = 7;

const Window kWindows[] = {
    window_of(8, 36, 2, 2, 2, 0), window_of(7, 18, 2, 2, 2, 0), window_of(5, 10, 2, 2, 2, 0),
    window_of(6, 6, 2, 2, 2, 0),  window_of(9, 7, 3, 3, 2, 1),  window_of(4, 5, 2, 2, 1, 0),
};

template <typename T>
void maxima(const Window& w, int threads) {
  const int64_t clients = 3, in = kPlanesTogether * w.pixels(), size = kPlanesTogether * w.spots();
  Rows<T> x = rows_of<T>(clients, in, 1), out = rows_of<T>(clients, size, 2);
  Rows<T> dout = rows_of<T>(clients, size, 3), dx = rows_of<T>(clients, in, 4);
  std::vector<int32_t> places(clients * size);
  pool(clients, threads,
       Pool<T>{
           kPlanesTogether, w, PoolKind::max, true, x.read(), out.bank(), {places.data(), size}});
  pool_backward(
      clients, threads,
      PoolBackward<T>{
          kPlanesTogether, w, PoolKind::max, true, dout.read(), {places.data(), size}, dx.bank()});
  for (int64_t k = 0; k < clients; ++k) {
    std::vector<double> pulls(in);
    for (int64_t plane = 0; plane < kPlanesTogether; ++plane) {
      each_result(w, [&](int64_t y, int64_t column) {
        const int64_t to = plane * w.spots() + y * w.out_width + column;
        int64_t best = -1;
        each_pixel(w, y, column, [&](int64_t row, int64_t j, int64_t) {
          const int64_t from = plane * w.pixels() + row * w.width + j;
          if (best < 0 || x.at(k, from) > x.at(k, best)) best = from;
        });
        expect("pool out", out.at(k, to), x.at(k, best), 0);
        pulls[best] += dout.at(k, to);
      });
    }
    for (int64_t i = 0; i < in; ++i) expect("pool dx", dx.at(k, i), pulls[i], kTolerance<T>);
  }
}

}  // namespace

void test_pool() {
  for (const Window& window : kWindows) {
    for (int threads : kThreads) maxima<float>(window, threads), maxima<double>(window, threads);
  }
}

}  // namespace fedfast::tests
