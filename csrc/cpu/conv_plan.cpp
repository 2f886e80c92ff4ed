#include "cpu/conv_plan.h"

#include <algorithm>

namespace fedfast {
namespace {

constexpr int64_t kSpotsTogether = 192;  // enough to pay for reading the weights
constexpr int64_t kElementsTogether = 1LL
                                      << 17;  // of their padded images, in the second-level cache

// Offsets of `images` padded images' results, `step_y` rows and `step_x` columns apart.
std::vector<int32_t> spots_of(const PaddedImage& padded, int64_t images, int64_t rows,
                              int64_t columns, int64_t step_y, int64_t step_x) {
  std::vector<int32_t> at;
  at.reserve(images * rows * columns);
  for (int64_t i = 0; i < images; ++i) {
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t x = 0; x < columns; ++x) {
        at.push_back(
            static_cast<int32_t>(i * padded.size() + y * step_y * padded.width + x * step_x));
      }
    }
  }
  return at;
}

// Offsets of the window's taps in each channel, in the weights' order or turned round.
std::vector<int32_t> taps_of(const PaddedImage& padded, const Window& w, bool turned) {
  std::vector<int32_t> deep;
  deep.reserve(padded.channels * w.taps());
  for (int64_t c = 0; c < padded.channels; ++c) {
    for (int64_t y = 0; y < w.kh; ++y) {
      for (int64_t x = 0; x < w.kw; ++x) {
        const int64_t row = (turned ? w.kh - 1 - y : y) * w.dh;
        const int64_t column = (turned ? w.kw - 1 - x : x) * w.dw;
        deep.push_back(static_cast<int32_t>((c * padded.height + row) * padded.width + column));
      }
    }
  }
  return deep;
}

// Rows of results cut evenly into at most one vector each; an image without margins is one row.
std::vector<Segment> segments_of(const PaddedImage& padded, int64_t rows, int64_t columns,
                                 int64_t step_y, int lanes) {
  if (step_y == 1 && padded.width == columns) columns *= rows, rows = 1;
  const int64_t pieces = (columns + lanes - 1) / lanes;
  std::vector<Segment> segments;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t i = 0; i < pieces; ++i) {
      const int64_t x = i * lanes, length = std::min<int64_t>(lanes, columns - x);
      segments.push_back({static_cast<int32_t>(y * step_y * padded.width + x),
                          static_cast<int32_t>(y * columns + x), static_cast<int32_t>(length)});
    }
  }
  return segments;
}

int64_t images_together(const PaddedImage& padded, int64_t batch, int64_t spots) {
  const int64_t wanted = kSpotsTogether / std::max<int64_t>(spots, 1);
  const int64_t fitting = kElementsTogether / std::max<int64_t>(padded.size(), 1);
  return std::clamp<int64_t>(std::min(wanted, fitting), 1, std::max<int64_t>(batch, 1));
}

struct Span {
  int64_t start, stop;
};

// Which of `count` pixels, `step` apart from `first` on, lie in [0, size).
Span inside(int64_t first, int64_t step, int64_t count, int64_t size) {
  const int64_t start = first >= 0 ? 0 : (-first + step - 1) / step;
  const int64_t stop = first >= size ? 0 : (size - 1 - first) / step + 1;
  return {std::min(start, count), std::max(std::min(start, count), std::min(stop, count))};
}

int64_t vectors_of(int64_t channels, int lanes) { return (channels + lanes - 1) / lanes; }

}  // namespace

ConvPlan plan_forward(const ConvShape& shape, int lanes) {
  const Window& w = shape.window;
  ConvPlan plan;
  plan.padded = {shape.group_inputs(), w.height, w.width, w.height + 2 * w.ph,
                 w.width + 2 * w.pw,   w.ph,     w.pw};
  plan.spots = w.spots();
  plan.images = images_together(plan.padded, shape.batch, plan.spots);
  plan.at = spots_of(plan.padded, plan.images, w.out_height, w.out_width, w.sh, w.sw);
  plan.deep = taps_of(plan.padded, w, false);
  if (w.sw == 1) plan.segments = segments_of(plan.padded, w.out_height, w.out_width, w.sh, lanes);
  return plan;
}

ConvPlan plan_data_gradient(const ConvShape& shape, int lanes) {
  const Window& w = shape.window;
  const int64_t reach_y = w.dh * (w.kh - 1), reach_x = w.dw * (w.kw - 1);
  ConvPlan plan;
  plan.padded = {shape.group_outputs(),
                 w.out_height,
                 w.out_width,
                 w.height + reach_y,
                 w.width + reach_x,
                 reach_y - w.ph,
                 reach_x - w.pw,
                 w.sh,
                 w.sw};
  plan.spots = w.pixels();
  plan.images = images_together(plan.padded, shape.batch, plan.spots);
  plan.at = spots_of(plan.padded, plan.images, w.height, w.width, 1, 1);
  plan.deep = taps_of(plan.padded, w, true);
  plan.segments = segments_of(plan.padded, w.height, w.width, 1, lanes);
  return plan;
}

double spots_cost(const ConvPlan& plan, int64_t channels, int lanes) {
  const double vectors = vectors_of(channels, lanes);
  const double starved = vectors == 1 ? 1.3 : 1.05;  // too few sums to hide a product's latency
  const double turning = lanes;                      // channels are turned into planes
  return plan.spots * vectors * (starved * plan.deep.size() + turning);
}

double rows_cost(const ConvPlan& plan, int64_t channels) {
  return plan.segments.size() * channels * (1.1 * plan.deep.size() + 2.0);
}

double row_gradient_cost(const ConvPlan& plan, int64_t channels) {
  return 2.2 * plan.segments.size() * channels * plan.deep.size();  // loads cross cache lines
}

double scatter_cost(const ConvPlan& forward, const ConvShape& shape, int lanes) {
  const double vectors = vectors_of(shape.group_inputs(), lanes);
  const double starved = vectors == 1 ? 1.4 : 1.15;
  const double products = shape.window.taps() * shape.group_outputs();
  const double turning = 1.5 * lanes * forward.padded.height * forward.padded.width;
  return vectors * (starved * products * forward.spots + turning);
}

template <typename T>
void pad_image(const PaddedImage& padded, const T* source, T* to) {
  const Span rows = inside(padded.top, padded.step_y, padded.source_height, padded.height);
  const Span columns = inside(padded.left, padded.step_x, padded.source_width, padded.width);
  for (int64_t c = 0; c < padded.channels; ++c) {
    for (int64_t y = rows.start; y < rows.stop; ++y) {
      T* line = to + (c * padded.height + padded.top + y * padded.step_y) * padded.width;
      const T* from = source + (c * padded.source_height + y) * padded.source_width;
      if (padded.step_x == 1) {
        std::copy(from + columns.start, from + columns.stop, line + padded.left + columns.start);
        continue;
      }
      for (int64_t x = columns.start; x < columns.stop; ++x) {
        line[padded.left + x * padded.step_x] = from[x];
      }
    }
  }
}

template void pad_image(const PaddedImage&, const float*, float*);
template void pad_image(const PaddedImage&, const double*, double*);

}  // namespace fedfast
