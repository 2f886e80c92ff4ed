#include "cpu/conv_frames.h"

#include <algorithm>
#include <type_traits>

namespace fedfast {
namespace {

constexpr int64_t kLongestWindow = 8;     // what the short transforms of windows read
constexpr int64_t kMostBytes = 64 << 20;  // of a client's lifted weights
// Frames worked on together pay for reading the weights; more than so many gain nothing.
constexpr int64_t kFewest = 16, kMost = 64, kLiftedBytes = 12 << 20;
constexpr int64_t kFewFrames = 20, kPanelBytes = 1 << 19;

struct Piece {
  int64_t result, results, inside, pixel, pixels;
};

// One side of an image in pieces. Results whose windows go round the end of a frame are right where
// what they meet at its beginning is the margin of zeros.
std::vector<Piece> pieces_of(int64_t size, int64_t results, int64_t margin, int64_t window) {
  const bool one = size + margin <= kSpectrumSide && results <= kSpectrumSide;
  const Cut cut(results, one ? results : kSpectrumSide + 1 - window);
  std::vector<Piece> pieces;
  each(cut, [&](int64_t first, int64_t count) {
    const int64_t pixel = std::max<int64_t>(0, first - margin);
    const int64_t inside = std::min<int64_t>(pixel - (first - margin), kSpectrumSide);
    const int64_t pixels = std::max<int64_t>(0, std::min(kSpectrumSide - inside, size - pixel));
    pieces.push_back({first, count, inside, pixel, pixels});
  });
  return pieces;
}

}  // namespace

std::vector<Frame> frames_of(const Grid& g) {
  std::vector<Frame> frames;
  for (const Piece& y : pieces_of(g.height, g.rows, g.top, g.kh)) {
    for (const Piece& x : pieces_of(g.width, g.columns, g.left, g.kw)) {
      frames.push_back({y.result, x.result, y.results, x.results, y.inside, x.inside, y.pixel,
                        x.pixel, y.pixels, x.pixels});
    }
  }
  return frames;
}

template <typename T>
bool has_frames(const Window& w, int64_t depth, int64_t channels) {
  const int64_t bytes =
      depth * padded_to(channels, kSpectraA) * kSpectrumRows * kNumber * sizeof(T);
  return std::is_same_v<T, float> && conv_kernels<float>().lift_square != nullptr &&
         has_squares(w) && std::max(w.kh, w.kw) <= kLongestWindow && bytes <= kMostBytes;
}

// A frame's transforms take as long as some 400 instructions of sixteen lanes, with what they move
// through the second-level cache; what is done once a batch for each window as some 300.
double frames_cost(const Grid& g, int64_t batch, int64_t depth, int64_t channels, int lanes) {
  const double frames = static_cast<double>(frames_of(g).size());
  const double products = 4.0 * kSpectrumRows * depth * padded_to(channels, kSpectraA);
  const double windows = 300.0 * depth * channels / batch;
  const double narrow = lanes < kSpectrumSide ? 1.15 : 1;  // tiles of 2 x 2 wait for their loads
  const double pieces = narrow * kSpectrumSide / lanes;
  return pieces * (frames * (1.1 * products + 400.0 * (depth + channels)) + windows);
}

int64_t images_of_frames(const Grid& g, int64_t batch, int64_t depth, int64_t channels) {
  const auto frames = static_cast<int64_t>(frames_of(g).size());
  const int64_t bytes = kSpectrumRows * kNumber * (depth + channels) * int64_t{sizeof(float)};
  const int64_t together = std::clamp(kLiftedBytes / bytes, kFewest, kMost);
  return std::clamp<int64_t>(together / frames, 1, std::max<int64_t>(batch, 1));
}

int64_t panel_of_windows(int64_t frames, int64_t depth, int64_t channels) {
  const int64_t bytes = kSpectrumRows * kNumber * depth * int64_t{sizeof(float)};
  const int64_t wanted = std::max<int64_t>(1, kPanelBytes / (bytes * kSpectraA)) * kSpectraA;
  return frames > kFewFrames ? channels : std::min(wanted, channels);
}

template <typename T>
SpectrumLift<T> lift_pixels(const Grid& g, const Frame& f, const T* image) {
  return {image + f.from_y * g.width + f.from_x,
          g.width,
          g.height * g.width,
          0,
          static_cast<int>(f.top),
          static_cast<int>(f.left),
          static_cast<int>(f.pixel_rows),
          static_cast<int>(f.pixel_columns),
          nullptr,
          0,
          0};
}

template <typename T>
SpectrumLift<T> lift_results(const Grid& g, const Frame& f, const T* image) {
  return {image + f.y * g.columns + f.x,
          g.columns,
          g.rows * g.columns,
          0,
          0,
          0,
          static_cast<int>(f.rows),
          static_cast<int>(f.columns),
          nullptr,
          0,
          0};
}

// Rows at one place of all whole blocks lie evenly apart, those that are left are lifted by one.
template <typename T>
void lift_rows(SpectrumLift<T> lift, const Blocks& blocks, int64_t depth, T* to) {
  const SpectrumLift<T> planes = lift;
  const int64_t whole = blocks.rows / blocks.width;
  const auto some = [&](int64_t row, int64_t count) {
    lift.from = planes.from + row * planes.plane;
    lift.plane = blocks.width * planes.plane;
    lift.count = count;
    lift.to = to + blocks.at(row, depth);
    lift.to_plane = blocks.plane();
    lift.to_step = blocks.width * blocks.depth * kNumber;
    conv_kernels<T>().lift_square(lift);
  };
  for (int64_t row = 0; row < blocks.width && whole > 0; ++row) some(row, whole);
  for (int64_t row = whole * blocks.width; row < blocks.rows; ++row) some(row, 1);
}

template <typename T>
SeenPixels<T>::SeenPixels(const Grid& grid, const Frame& frame, const T* image, int64_t depth)
    : grid_(grid), frame_(frame) {
  const T* from = image + frame.from_y * grid.width + frame.from_x;
  for (int64_t c = 0; c < depth && !all_; ++c, from += grid.height * grid.width) {
    Bits seen{};
    conv_kernels<T>().see(from, grid.width, frame.pixel_rows, frame.pixel_columns, seen.data());
    for (int64_t i = 0; i < frame.pixel_rows; ++i) pixels_[frame.top + i] |= seen[i] << frame.left;
    all_ = spread();
  }
}

// From pixels to the results that see them; whether these are all.
template <typename T>
bool SeenPixels<T>::spread() {
  Bits along{};
  for (int64_t i = 0; i < kSpectrumSide; ++i) {
    for (int64_t v = 0; v < grid_.kw; ++v) along[i] |= pixels_[i] >> v;
  }
  const uint32_t whole = (uint32_t{1} << frame_.columns) - 1;
  bool all = true;
  for (int64_t i = 0; i < frame_.rows; ++i) {
    for (int64_t u = 0; u < grid_.kh; ++u) results_[i] |= along[i + u];
    all = all && (results_[i] & whole) == whole;
  }
  return all;
}

template <typename T>
void SeenPixels<T>::clear(T* plane) const {
  for (int64_t i = 0; i < frame_.rows; ++i) {
    T* row = plane + (frame_.y + i) * grid_.columns + frame_.x;
    for (int64_t j = 0; j < frame_.columns; ++j) {
      if (!(results_[i] >> j & 1)) row[j] = row[j] * 0 + 0;  // not what weights made NaN; no -0
    }
  }
}

template bool has_frames<float>(const Window&, int64_t, int64_t);
template bool has_frames<double>(const Window&, int64_t, int64_t);
template SpectrumLift<float> lift_pixels(const Grid&, const Frame&, const float*);
template SpectrumLift<double> lift_pixels(const Grid&, const Frame&, const double*);
template SpectrumLift<float> lift_results(const Grid&, const Frame&, const float*);
template SpectrumLift<double> lift_results(const Grid&, const Frame&, const double*);
template void lift_rows(SpectrumLift<float>, const Blocks&, int64_t, float*);
template void lift_rows(SpectrumLift<double>, const Blocks&, int64_t, double*);
template class SeenPixels<float>;
template class SeenPixels<double>;

}  // namespace fedfast
