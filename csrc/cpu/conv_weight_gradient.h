// How a client's weight gradient is summed, image after image.
#pragma once

#include <optional>

#include "cpu/conv_frame_gradient.h"
#include "cpu/conv_planes.h"
#include "cpu/conv_square_gradient.h"

namespace fedfast {

// Sums c[tap, output] as spots, c[output, tap, lane] as rows, or by squares or frames.
template <typename T>
class WeightGradient {
 public:
  explicit WeightGradient(const ConvShape& shape);

  bool by_frames() const { return frames_.has_value(); }
  int64_t images() const {
    if (frames_) return frames_->images();
    return squares_ ? squares_->images() : plan_.images;
  }
  int64_t elements(int64_t outputs) const;  // of workspace, for some of a group's outputs

 private:
  template <typename>
  friend class WeightPass;

  int64_t taps() const { return plan_.deep.size(); }
  int64_t width(int64_t outputs) const { return padded_to(outputs, kernels_.lanes); }
  int64_t sums(int64_t outputs) const {
    return taps() * (by_rows_ ? outputs * kernels_.lanes : width(outputs));
  }
  int64_t turned(int64_t outputs) const {
    return by_rows_ ? 0 : plan_.images * plan_.spots * width(outputs);
  }
  int64_t piece(int64_t outputs) const { return kPieceTaps * width(outputs); }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  ConvShape shape_;
  ConvPlan plan_;
  std::optional<SquareGradient<T>> squares_;
  std::optional<FrameGradient<T>> frames_;
  bool by_rows_ = false;
};

// One client's sums for some of a group's outputs, in one thread's scratch.
template <typename T>
class WeightPass {
 public:
  WeightPass(const WeightGradient<T>& gradient, int64_t outputs, Workspace<T>& workspace);

  void start();
  // Adds images, whole batches apart; `ahead` is asked for meanwhile.
  void add(const T* x, const T* dout, int64_t images, Ahead ahead);

  // Calls body(place, piece, row): a piece [place.taps, place.outputs] in rows `row` apart, or,
  // where `row` is 0, the taps of one output.
  template <typename Body>
  void give(const Body& body);

 private:
  void add_spots(const T* padded, const T* dout, int64_t images, Ahead ahead);
  void add_rows(const T* padded, const T* dout, int64_t images);
  void fold_lanes(const Place& place);

  const WeightGradient<T>& g_;
  const ConvKernels<T>& kernels_;
  int64_t outputs_, width_, in_image_, out_image_;
  std::optional<SquareSums<T>> squares_;
  std::optional<FrameSums<T>> frames_;
  std::optional<Padder<T>> padder_;
  T *sums_ = nullptr, *turned_ = nullptr, *piece_ = nullptr;
};

template <typename T>
template <typename Body>
void WeightPass<T>::give(const Body& body) {
  if (frames_) return frames_->give(body);
  if (squares_) return squares_->give(body);
  for (int64_t t = 0; t < g_.taps(); t += kPieceTaps) {
    const Place place{0, outputs_, t, std::min(kPieceTaps, g_.taps() - t)};
    if (g_.by_rows_) fold_lanes(place);
    body(place, g_.by_rows_ ? piece_ : sums_ + t * width_, width_);
  }
}

}  // namespace fedfast
