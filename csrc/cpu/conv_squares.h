// Convolutions one pixel apart with fewer products: minimal filtering F(2 x 2, 3 x 3). Results lie
// in squares of 2 x 2; blocks of at most 3 x 3 taps need overlapping squares of 4 x 4 pixels; the
// channels of a pixel lie side by side, in a row. 3 x 3 windows take 16 products instead of 36,
// 5 x 5 windows, four blocks, 49 instead of 100.
//
// All constants are 1 and 1/2: errors stay within three times those of a direct sum. Larger squares
// would save more products but lose too many digits in float32: F(3 x 3, 3 x 3) has 4 to 10 times
// the error, F(4 x 4, 3 x 3) up to 18 times.
#pragma once

#include <vector>

#include "cpu/conv.h"

namespace fedfast {

// Taps of a window, [y, y + rows) x [x, x + columns).
struct Block {
  int64_t y, x, rows, columns;
};

// Whether a block has a plane at all: the last row and column are zero where it has but two taps.
bool has_plane(const Block& block, int plane);

// The sizes of an image and of its results, the margins before it, and the window.
struct Grid {
  int64_t height, width, rows, columns, top, left, kh, kw;
  bool turned;  // for a data gradient: the window's taps in reverse order

  int64_t taps() const { return kh * kw; }
};
Grid forward_grid(const Window& window);
Grid data_gradient_grid(const Window& window);

// Neighbouring blocks.
struct Run {
  int64_t first, count;
};

// Where the squares of a group of images lie. Pixels beyond an image are one row of zeros behind
// the group's last; results beyond it, and taps beyond a block, one row of waste.
struct Squares {
  int64_t inputs, results;          // pixels and results of an image
  int64_t taps;                     // of a channel
  int64_t images;                   // worked on together
  int64_t together;                 // squares lifted at once
  int64_t each;                     // squares of an image
  int64_t channels;                 // whose taps are lifted at once
  std::vector<Block> blocks;        // those with three rows or columns of taps first
  std::vector<Run> runs[kPlanes];   // blocks that have this plane
  std::vector<int32_t> pixels;      // [blocks, images * each, 16]
  std::vector<int32_t> results_at;  // [images * each, 4]
  std::vector<int32_t> taps_at;     // [blocks, channels, 9]

  const int32_t* block_pixels(size_t block, int64_t square) const {
    return &pixels[(block * images * each + square) * 16];
  }
  const int32_t* block_taps(size_t block) const { return &taps_at[block * channels * 9]; }
};
Squares squares_of(const Grid& grid, int64_t batch, int64_t together);

// Whether a convolution can be formed so, and how many vector instructions it then takes, roughly.
bool has_squares(const Window& window);
double squares_cost(const Grid& grid, int64_t batch, int64_t depth, int64_t channels, int lanes);
// The same for a data gradient that scatters the squares of the forward grid.
double square_scatter_cost(const Grid& grid, int64_t batch, int64_t depth, int64_t channels,
                           int lanes);

// Elements of rows or planes, a line more than needed: what is written to all planes at once, or
// read from several rows, must not meet in one set of a cache.
template <typename T>
int64_t apart(int64_t elements) {
  return elements + kLineBytes / static_cast<int64_t>(sizeof(T));
}

// Offsets 0, step, 2 step, ...
std::vector<int32_t> steps_of(int64_t count, int64_t step);

constexpr int64_t kPieceTaps = 144;  // rows of taps that stay in the first-level cache

}  // namespace fedfast
