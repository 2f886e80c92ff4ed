// Where a convolution's pixels lie: made once per operation, from its shape alone.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/conv_kernels.h"
#include "images.h"

namespace fedfast {

// An image's channels copied with a margin and, for the gradient of a strided convolution, with
// gaps between the pixels. Both stay zero.
struct PaddedImage {
  int64_t channels, source_height, source_width;
  int64_t height, width;
  int64_t top, left;  // of the source's first pixel; negative: cropped
  int64_t step_y = 1, step_x = 1;

  int64_t size() const { return channels * height * width; }
  bool is_source() const {
    return top == 0 && left == 0 && height == source_height && width == source_width;
  }
};

// One convolution as the kernels see it: sums of padded[at + deep] over `deep`.
struct ConvPlan {
  PaddedImage padded;
  int64_t images;                 // worked on together
  int64_t spots;                  // results per image and channel
  std::vector<int32_t> at;        // [images * spots]
  std::vector<int32_t> deep;      // [depth], channel by channel
  std::vector<Segment> segments;  // of one image; none where columns are not neighbours
};

ConvPlan plan_forward(const ConvShape& shape, int lanes);

// dx from dout: the same form, with the weights turned round.
ConvPlan plan_data_gradient(const ConvShape& shape, int lanes);

// How many vector instructions the two ways of forming a product take, roughly.
double spots_cost(const ConvPlan& plan, int64_t channels, int lanes);
double rows_cost(const ConvPlan& plan, int64_t channels);
// The same for a weight gradient by rows, and for a data gradient scattered from dout.
double row_gradient_cost(const ConvPlan& plan, int64_t channels);
double scatter_cost(const ConvPlan& forward, const ConvShape& shape, int lanes);

// Copies an image's channels into a padded image whose margins are zero.
template <typename T>
void pad_image(const PaddedImage& padded, const T* source, T* to);

}  // namespace fedfast
