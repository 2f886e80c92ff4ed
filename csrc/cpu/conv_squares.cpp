#include "cpu/conv_squares.h"

#include <algorithm>

namespace fedfast {
namespace {

constexpr int64_t kBlockSide = 3;

// Rows of the `side` x `side` places from (y, x) on, of `height` x `width` whose first is row
// `base`; `beyond` for those outside.
void add_square(int64_t height, int64_t width, int64_t base, int64_t y, int64_t x, int64_t side,
                int64_t beyond, std::vector<int32_t>& to) {
  for (int64_t i = y; i < y + side; ++i) {
    for (int64_t j = x; j < x + side; ++j) {
      const bool inside = i >= 0 && i < height && j >= 0 && j < width;
      to.push_back(static_cast<int32_t>(inside ? base + i * width + j : beyond));
    }
  }
}

// Calls body(image, y, x) for every square of `images` images.
template <typename Body>
void each_square(const Grid& g, int64_t images, const Body& body) {
  for (int64_t i = 0; i < images; ++i) {
    for (int64_t y = 0; y < g.rows; y += 2) {
      for (int64_t x = 0; x < g.columns; x += 2) body(i, y, x);
    }
  }
}

// Starts of pieces of at most three taps, the longest first, and the end.
std::vector<int64_t> pieces_of(int64_t taps) {
  const int64_t pieces = (taps + kBlockSide - 1) / kBlockSide;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i <= pieces; ++i) starts.push_back((taps * i + pieces - 1) / pieces);
  return starts;
}

std::vector<Block> blocks_of(const Grid& g) {
  const std::vector<int64_t> y = pieces_of(g.kh), x = pieces_of(g.kw);
  std::vector<Block> blocks;
  for (size_t i = 0; i + 1 < y.size(); ++i) {
    for (size_t j = 0; j + 1 < x.size(); ++j) {
      blocks.push_back({y[i], x[j], y[i + 1] - y[i], x[j + 1] - x[j]});
    }
  }
  return blocks;
}

std::vector<Run> runs_of(const std::vector<Block>& blocks, int plane) {
  std::vector<Run> runs;
  for (size_t b = 0; b < blocks.size(); ++b) {
    if (!has_plane(blocks[b], plane)) continue;
    const auto at = static_cast<int64_t>(b);
    if (!runs.empty() && runs.back().first + runs.back().count == at) {
      ++runs.back().count;
    } else {
      runs.push_back({at, 1});
    }
  }
  return runs;
}

void add_taps(const Grid& g, const Block& b, int64_t channels, std::vector<int32_t>& to) {
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t y = 0; y < kBlockSide; ++y) {
      for (int64_t x = 0; x < kBlockSide; ++x) {
        const bool inside = y < b.rows && x < b.columns;
        const int64_t tap = (b.y + y) * g.kw + b.x + x;
        const int64_t row = c * g.taps() + (g.turned ? g.taps() - 1 - tap : tap);
        to.push_back(static_cast<int32_t>(inside ? row : channels * g.taps()));
      }
    }
  }
}

}  // namespace

bool has_plane(const Block& block, int plane) {
  return (plane / 4 < 3 || block.rows == kBlockSide) &&
         (plane % 4 < 3 || block.columns == kBlockSide);
}

Grid forward_grid(const Window& w) {
  return {w.height, w.width, w.out_height, w.out_width, w.ph, w.pw, w.kh, w.kw, false};
}

Grid data_gradient_grid(const Window& w) {
  return {w.out_height,    w.out_width, w.height, w.width, w.kh - 1 - w.ph,
          w.kw - 1 - w.pw, w.kh,        w.kw,     true};
}

Squares squares_of(const Grid& g, int64_t batch, int64_t together) {
  Squares s;
  s.inputs = g.height * g.width;
  s.results = g.rows * g.columns;
  s.taps = g.taps();
  s.each = (g.rows + 1) / 2 * ((g.columns + 1) / 2);
  s.images = std::clamp<int64_t>(together / s.each, 1, std::max<int64_t>(batch, 1));
  s.together = std::min(together, s.images * s.each);
  s.channels = std::max<int64_t>(1, kPieceTaps / s.taps);
  s.blocks = blocks_of(g);
  for (int i = 0; i < kPlanes; ++i) s.runs[i] = runs_of(s.blocks, i);
  for (const Block& b : s.blocks) {
    add_taps(g, b, s.channels, s.taps_at);
    each_square(g, s.images, [&](int64_t i, int64_t y, int64_t x) {
      add_square(g.height, g.width, i * s.inputs, y - g.top + b.y, x - g.left + b.x, 4,
                 s.images * s.inputs, s.pixels);
    });
  }
  each_square(g, s.images, [&](int64_t i, int64_t y, int64_t x) {
    add_square(g.rows, g.columns, i * s.results, y, x, 2, s.images * s.results, s.results_at);
  });
  return s;
}

bool has_squares(const Window& w) {
  return std::min(w.kh, w.kw) > 1 && w.sh == 1 && w.sw == 1 && w.dh == 1 && w.dw == 1;
}

namespace {

// What the two ways share: products with their overhead, and lifting the weights.
struct Cost {
  double in, out, squares, blocks, multiplying, weights;

  Cost(const Grid& g, int64_t batch, int64_t depth, int64_t channels, int lanes)
      : in(static_cast<double>((depth + lanes - 1) / lanes)),
        out(static_cast<double>((channels + lanes - 1) / lanes)),
        squares(static_cast<double>((g.rows + 1) / 2 * ((g.columns + 1) / 2))) {
    const std::vector<Block> all = blocks_of(g);
    double products = 0, runs = 0;
    for (int i = 0; i < kPlanes; ++i) {
      for (const Run& run : runs_of(all, i)) ++runs, products += static_cast<double>(run.count);
    }
    const double starved = out == 1 ? 1.3 : 1.05;
    blocks = static_cast<double>(all.size());
    multiplying = squares * out * (starved * products * depth + 4 * runs);
    weights = 80 * blocks * out * depth / batch;  // shared by the batch
  }
};

}  // namespace

// Lifting, dropping, and turning what lies in planes take so many instructions a square.
double squares_cost(const Grid& g, int64_t batch, int64_t depth, int64_t channels, int lanes) {
  const Cost c(g, batch, depth, channels, lanes);
  return c.multiplying + c.weights + c.squares * ((64 + 90 * c.blocks) * c.in + 120 * c.out);
}

double square_scatter_cost(const Grid& g, int64_t batch, int64_t depth, int64_t channels,
                           int lanes) {
  const Cost c(g, batch, depth, channels, lanes);
  const double pixels = 20.0 * g.height * g.width * c.out;
  return c.multiplying + c.weights + c.squares * (150 * c.in + 140 * c.blocks * c.out) + pixels;
}

std::vector<int32_t> steps_of(int64_t count, int64_t step) {
  std::vector<int32_t> at(count);
  for (int64_t i = 0; i < count; ++i) at[i] = static_cast<int32_t>(i * step);
  return at;
}

}  // namespace fedfast
