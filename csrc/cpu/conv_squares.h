// Convolutions by windows of 3 x 3, one pixel apart, with 16 products where 36 would be formed
// directly: minimal filtering F(2 x 2, 3 x 3). Results lie in squares of 2 x 2, their pixels in
// overlapping squares of 4 x 4; the channels of a pixel lie side by side, in a row.
//
// All constants are 1 and 1/2: errors stay within three times those of a direct sum (docs/facts.md).
#pragma once

#include <vector>

#include "cpu/conv.h"

namespace fedfast {

// Where the squares of a group of images lie. Pixels beyond an image are one row of zeros behind
// the group's last; results beyond it one row of waste.
struct Squares {
  int64_t inputs, results;    // pixels and results of an image
  int64_t images;             // worked on together
  int64_t together;           // squares lifted at once
  int64_t each;               // squares of an image
  std::vector<int32_t> from;  // [images * each, 16]
  std::vector<int32_t> to;    // [images * each, 4]
};

// The sizes of an image and of its results, and the margins before it.
struct Grid {
  int64_t height, width, rows, columns, top, left;
};
Grid forward_grid(const Window& window);
Grid data_gradient_grid(const Window& window);
Squares squares_of(const Grid& grid, int64_t batch, int64_t together);

// Whether the window is one of these, and how many vector instructions a product of `depth` with
// `channels`, or a weight gradient, then takes, roughly.
bool has_squares(const Window& window);
double squares_cost(const Grid& grid, int64_t batch, int64_t depth, int64_t channels, int lanes);

// Elements of one of sixteen planes, a line more than needed: lines written to all of them at once
// must not fall into one set of a cache.
template <typename T>
int64_t plane_of(int64_t rows, int64_t columns) {
  return rows * columns + kLineBytes / static_cast<int64_t>(sizeof(T));
}

// Offsets 0, step, 2 step, ...
std::vector<int32_t> steps_of(int64_t count, int64_t step);

// Rows of the taps of so many channels, [channels, 9]; turned round for a data gradient.
std::vector<int32_t> taps_at(int64_t channels, bool turned);

constexpr int64_t kTapChannels = 16;  // lifted at once: their rows stay in the first-level cache
constexpr int64_t kTaps = 9;

}  // namespace fedfast
