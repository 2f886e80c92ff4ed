// Convolutions one pixel apart through Fourier transforms: the frequencies of a frame of 16 x 16
// pixels are multiplied one by one, so that a result costs the same whatever the window. 5 x 5
// windows on 14 x 14 pixels take 576 products per pair of channels instead of 4900.
//
// Errors are those of direct sums in float32 or smaller, of the norm of a frame's results: small
// ones near large ones lose digits that they keep in a direct sum. A result whose window sees
// nothing but zeros is therefore set to zero, as a direct sum has it; so is the gradient of a
// window where a channel of either side is zero all over.
//
// Source: Mathieu, Henaff and LeCun, "Fast training of convolutional networks through FFTs", 2014.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "cpu/conv_squares.h"

namespace fedfast {

constexpr int64_t kNumber = 2 * kSpectrumSide;  // elements of a row of a spectrum

// Some results of an image, and the pixels that their windows see.
struct Frame {
  int64_t y, x, rows, columns;  // results
  int64_t top, left;            // where the first of the pixels lies in the frame
  int64_t from_y, from_x, pixel_rows, pixel_columns;
};

std::vector<Frame> frames_of(const Grid& grid);

// Whether a convolution can be formed so, and how many vector instructions an image then takes,
// roughly.
template <typename T>
bool has_frames(const Window& window, int64_t depth, int64_t channels);
double frames_cost(const Grid& grid, int64_t batch, int64_t depth, int64_t channels, int lanes);

// How many images are worked on together.
int64_t images_of_frames(const Grid& grid, int64_t batch, int64_t depth, int64_t channels);

// How many channels' windows, of `depth` spectra each, are lifted at once: all of them, unless the
// frames that share them are so few that those should stay in the second-level cache.
int64_t panel_of_windows(int64_t frames, int64_t depth, int64_t channels);

// Spectra [rows, depth] in blocks of `width` rows side by side: block after block, [depth, width]
// of each. The last may be narrower, unless it is padded.
struct Blocks {
  int64_t rows, depth, width;
  bool padded;

  int64_t across(int64_t row) const {
    return padded ? width : std::min(width, rows - row / width * width);
  }
  int64_t at(int64_t row, int64_t d) const {
    return (row / width * width * depth + d * across(row) + row % width) * kNumber;
  }
  int64_t plane() const { return apart<float>(padded_to(rows, width) * depth * kNumber); }
};

// The pixels of a frame, and its share of results, in the planes of an image, yet without a place
// to be lifted to.
template <typename T>
SpectrumLift<T> lift_pixels(const Grid& grid, const Frame& frame, const T* image);
template <typename T>
SpectrumLift<T> lift_results(const Grid& grid, const Frame& frame, const T* image);

// Lifts planes to the rows of some blocks, all at one depth.
template <typename T>
void lift_rows(SpectrumLift<T> lift, const Blocks& blocks, int64_t depth, T* to);

// Which results of a frame see a pixel that is not zero: bits of columns, row by row.
template <typename T>
class SeenPixels {
 public:
  // Of `depth` channels of an image.
  SeenPixels(const Grid& grid, const Frame& frame, const T* image, int64_t depth);

  bool all() const { return all_; }
  // Sets the other results of a plane to zero.
  void clear(T* plane) const;

 private:
  bool spread();

  const Grid& grid_;
  const Frame& frame_;
  // Windows may reach beyond a frame's last row and column, where nothing is.
  using Bits = std::array<uint32_t, 2 * kSpectrumSide>;
  Bits pixels_{}, results_{};
  bool all_ = false;
};

}  // namespace fedfast
