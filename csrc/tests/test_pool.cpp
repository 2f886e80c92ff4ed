#include <limits>

#include "tests/layers.h"

namespace fedfast::tests {
namespace {

Window pool_window(Window w) {
  w.out_height = (w.height + 2 * w.ph - w.kh) / w.sh + 1;
  w.out_width = (w.width + 2 * w.pw - w.kw) / w.sw + 1;
  return w;
}

// height, width, out, out, kernel, stride, padding
const Window kPools[] = {
    pool_window({2, 2, 0, 0, 2, 2, 2, 2, 0, 0}),  pool_window({28, 28, 0, 0, 2, 2, 2, 2, 0, 0}),
    pool_window({9, 35, 0, 0, 2, 2, 2, 2, 0, 0}), pool_window({8, 7, 0, 0, 3, 3, 2, 2, 1, 1}),
    pool_window({11, 5, 0, 0, 4, 2, 1, 3, 2, 0}), pool_window({1, 1, 0, 0, 1, 1, 1, 1, 0, 0}),
    pool_window({6, 19, 0, 0, 3, 5, 3, 2, 1, 2}),
};

// Calls visit(place in the plane) for every element of window `spot` that is not padding.
template <typename Visit>
void each_element(const Window& w, int64_t spot, const Visit& visit) {
  const int64_t top = spot / w.out_width * w.sh - w.ph, left = spot % w.out_width * w.sw - w.pw;
  for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + w.kh, w.height); ++y) {
    for (int64_t x = std::max<int64_t>(left, 0); x < std::min(left + w.kw, w.width); ++x) {
      visit(y * w.width + x);
    }
  }
}

template <typename T>
struct Planes {
  Window w;
  int64_t clients;
  int threads;
  int64_t planes = 3, pixels = w.pixels(), spots = w.spots();
  Rows<T> x = block<T>(clients, planes* pixels, 1), out = block<T>(clients, planes* spots, 2);
  Rows<T> dout = block<T>(clients, planes* spots, 3), dx = block<T>(clients, planes* pixels, 4);
  std::vector<int32_t> argmax = std::vector<int32_t>(clients * planes * spots);

  // The gradient of every input, given each spot's share for each element of its window.
  template <typename Share>
  void expect_dx(const char* what, const Share& share) const {
    for (int64_t k = 0; k < clients; ++k) {
      std::vector<double> sum(planes * pixels);
      for (int64_t i = 0; i < planes * spots; ++i) {
        each_element(w, i % spots, [&](int64_t place) {
          sum[i / spots * pixels + place] += dout.at(k, i) * share(k, i, place);
        });
      }
      for (int64_t i = 0; i < planes * pixels; ++i) expect(what, dx.at(k, i), sum[i], kLayer<T>);
    }
  }

  void largest() {
    const int64_t stride = planes * spots;
    pool(clients, threads,
         Pool<T>{planes, w, true, true, x.read(), out.bank(), {argmax.data(), stride}});
    expect_block("max pool", out, clients, stride, [&](int64_t k, int64_t i) {
      double most = -std::numeric_limits<double>::infinity();
      each_element(w, i % spots, [&](int64_t place) {
        most = std::max(most, x.at(k, i / spots * pixels + place));
      });
      expect("argmax", x.at(k, i / spots * pixels + argmax[k * stride + i]), most, 0);
      return most;
    });
    pool_backward(
        clients, threads,
        PoolBackward<T>{planes, w, true, true, dout.read(), {argmax.data(), stride}, dx.bank()});
    expect_dx("max pool dx",
              [&](int64_t k, int64_t i, int64_t place) { return argmax[k * stride + i] == place; });
  }

  double divisor(int64_t spot, bool count_padding) const {
    int64_t inside = 0;
    each_element(w, spot, [&](int64_t) { ++inside; });
    return count_padding ? w.taps() : inside;
  }

  void mean(bool count_padding) {
    pool(clients, threads, Pool<T>{planes, w, false, count_padding, x.read(), out.bank(), {}});
    expect_block("mean pool", out, clients, planes * spots, [&](int64_t k, int64_t i) {
      double sum = 0;
      each_element(w, i % spots,
                   [&](int64_t place) { sum += x.at(k, i / spots * pixels + place); });
      return sum / divisor(i % spots, count_padding);
    });
    pool_backward(clients, threads,
                  PoolBackward<T>{planes, w, false, count_padding, dout.read(), {}, dx.bank()});
    expect_dx("mean pool dx",
              [&](int64_t, int64_t i, int64_t) { return 1 / divisor(i % spots, count_padding); });
  }
};

template <typename T>
void windows(const Window& w, int64_t clients, int threads) {
  Planes<T>{w, clients, threads}.largest();
  Planes<T>{w, clients, threads}.mean(true);
  Planes<T>{w, clients, threads}.mean(false);
}

// Means over windows [i h / n, ceil((i + 1) h / n)) and back.
template <typename T>
void adaptive(int64_t clients, int threads) {
  Window w{7, 10, 3, 4};
  const int64_t planes = 2, pixels = w.pixels(), spots = w.spots();
  Rows<T> x = block<T>(clients, planes * pixels, 1), out = block<T>(clients, planes * spots, 2);
  Rows<T> dx = block<T>(clients, planes * pixels, 3);
  adaptive_avg(clients, threads, AdaptivePool<T>{planes, w, x.read(), out.bank()});
  adaptive_avg_backward(clients, threads, AdaptivePool<T>{planes, w, out.read(), dx.bank()});
  for (int64_t k = 0; k < clients; ++k) {
    std::vector<double> back(planes * pixels);
    for (int64_t i = 0; i < planes * spots; ++i) {
      const int64_t row = i % spots / w.out_width, column = i % w.out_width;
      const int64_t top = row * w.height / w.out_height, left = column * w.width / w.out_width;
      const int64_t bottom = ((row + 1) * w.height + w.out_height - 1) / w.out_height;
      const int64_t right = ((column + 1) * w.width + w.out_width - 1) / w.out_width;
      const double area = (bottom - top) * (right - left);
      double sum = 0;
      for (int64_t place = 0; place < pixels; ++place) {
        const int64_t y = place / w.width, at = place % w.width;
        if (y < top || y >= bottom || at < left || at >= right) continue;
        sum += x.at(k, i / spots * pixels + place);
        back[i / spots * pixels + place] += out.at(k, i) / area;
      }
      expect("adaptive", out.at(k, i), sum / area, kLayer<T>);
    }
    for (int64_t i = 0; i < planes * pixels; ++i) {
      expect("adaptive dx", dx.at(k, i), back[i], kLayer<T>);
    }
  }
}

}  // namespace

void test_pool() {
  each_crowd([](int64_t clients, int threads) {
    for (const Window& w : kPools) {
      windows<float>(w, clients, threads), windows<double>(w, clients, threads);
    }
    adaptive<float>(clients, threads), adaptive<double>(clients, threads);
  });
}

}  // namespace fedfast::tests
