#include "cpu/conv_squares.h"

#include <algorithm>

namespace fedfast {
namespace {

// Rows `side` x `side` from (y, x) on of an image whose pixels start at row `base`; `beyond` it.
void square(const Grid& g, int64_t rows, int64_t columns, int64_t base, int64_t y, int64_t x,
            int64_t side, int64_t beyond, std::vector<int32_t>& to) {
  (void)g;
  for (int64_t i = y; i < y + side; ++i) {
    for (int64_t j = x; j < x + side; ++j) {
      const bool inside = i >= 0 && i < rows && j >= 0 && j < columns;
      to.push_back(static_cast<int32_t>(inside ? base + i * columns + j : beyond));
    }
  }
}

}  // namespace

Grid forward_grid(const Window& w) {
  return {w.height, w.width, w.out_height, w.out_width, w.ph, w.pw};
}

Grid data_gradient_grid(const Window& w) {
  return {w.out_height, w.out_width, w.height, w.width, 2 - w.ph, 2 - w.pw};
}

Squares squares_of(const Grid& g, int64_t batch, int64_t together) {
  Squares s;
  s.inputs = g.height * g.width;
  s.results = g.rows * g.columns;
  s.each = (g.rows + 1) / 2 * ((g.columns + 1) / 2);
  s.images = std::clamp<int64_t>(together / s.each, 1, std::max<int64_t>(batch, 1));
  s.together = std::min(together, s.images * s.each);
  for (int64_t i = 0; i < s.images; ++i) {
    for (int64_t y = 0; y < g.rows; y += 2) {
      for (int64_t x = 0; x < g.columns; x += 2) {
        square(g, g.height, g.width, i * s.inputs, y - g.top, x - g.left, 4, s.images * s.inputs,
               s.from);
        square(g, g.rows, g.columns, i * s.results, y, x, 2, s.images * s.results, s.to);
      }
    }
  }
  return s;
}

bool has_squares(const Window& w) {
  return w.kh == 3 && w.kw == 3 && w.sh == 1 && w.sw == 1 && w.dh == 1 && w.dw == 1;
}

double squares_cost(const Grid& g, int64_t batch, int64_t depth, int64_t channels, int lanes) {
  const double in = static_cast<double>((depth + lanes - 1) / lanes);
  const double out = static_cast<double>((channels + lanes - 1) / lanes);
  const double squares = static_cast<double>((g.rows + 1) / 2 * ((g.columns + 1) / 2));
  const double starved = out == 1 ? 1.3 : 1.05;
  const double changes = 120 * in + 100 * out;             // an image's squares, and turning it
  const double taps = 80 * out * depth / batch;  // shared by the batch
  return squares * (starved * kPlanes * depth * out + changes) + taps;
}

std::vector<int32_t> steps_of(int64_t count, int64_t step) {
  std::vector<int32_t> at(count);
  for (int64_t i = 0; i < count; ++i) at[i] = static_cast<int32_t>(i * step);
  return at;
}

std::vector<int32_t> taps_at(int64_t channels, bool turned) {
  std::vector<int32_t> at;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t t = 0; t < kTaps; ++t) {
      at.push_back(static_cast<int32_t>(c * kTaps + (turned ? kTaps - 1 - t : t)));
    }
  }
  return at;
}

}  // namespace fedfast
