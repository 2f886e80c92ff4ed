#include "cpu/conv_frame_gradient.h"

#include <algorithm>

namespace fedfast {

template <typename T>
FrameGradient<T>::FrameGradient(const ConvShape& shape)
    : grid_(forward_grid(shape.window)),
      frames_(frames_of(grid_)),
      images_(images_of_frames(grid_, shape.batch, shape.group_inputs(), shape.group_outputs())),
      inputs_(shape.group_inputs()),
      whole_(images_ >= shape.batch) {}

template <typename T>
int64_t FrameGradient<T>::elements(int64_t outputs) const {
  const auto rounded = Workspace<T>::rounded;
  return rounded(kSpectrumRows * sum_plane(outputs)) +
         rounded(kSpectrumRows * pixels(images_).plane()) +
         rounded(kSpectrumRows * results(outputs, images_).plane()) +
         rounded(inputs_ * grid_.taps());
}

template <typename T>
FrameSums<T>::FrameSums(const FrameGradient<T>& gradient, int64_t outputs, Workspace<T>& workspace)
    : g_(gradient),
      kernels_(g_.kernels_),
      outputs_(outputs),
      sums_(workspace.take(kSpectrumRows * g_.sum_plane(outputs))),
      pixels_(workspace.take(kSpectrumRows * g_.pixels(g_.images_).plane())),
      results_(workspace.take(kSpectrumRows * g_.results(outputs, g_.images_).plane())),
      taps_(workspace.take(g_.inputs_ * g_.grid_.taps())) {}

template <typename T>
void FrameSums<T>::add(const T* x, int64_t in_image, const T* dout, int64_t out_image,
                       int64_t images) {
  for (int64_t i = 0; i < images; ++i) {
    lift(x + i * in_image, dout + i * out_image, g_.frames(i), images);
  }
  images_ = images;
  if (g_.whole_) return;
  multiply(0);
  empty_ = false;
}

template <typename T>
void FrameSums<T>::lift(const T* x, const T* dout, int64_t first, int64_t images) {
  const Blocks pixels = g_.pixels(images), results = g_.results(outputs_, images);
  for (const Frame& f : g_.frames_) {
    lift_rows(lift_pixels(g_.grid_, f, x), pixels, first, pixels_);
    lift_rows(lift_results(g_.grid_, f, dout), results, first, results_);
    ++first;
  }
}

// The sums of a panel.
template <typename T>
void FrameSums<T>::multiply(int64_t first) {
  const Blocks pixels = g_.pixels(images_), results = g_.results(outputs_, images_);
  const int64_t stop = std::min(first + g_.panel(outputs_), outputs_);
  for (int row = 0; row < kSpectrumRows; ++row) {
    T* sums = sums_ + row * g_.sum_plane(outputs_);
    for (int64_t o = first; o < stop; o += kSpectraA) {
      for (int64_t c = 0; c < g_.inputs_; c += kSpectraB) {
        kernels_.spectra[pixels.across(c)]({results_ + row * results.plane() + results.at(o, 0),
                                            pixels_ + row * pixels.plane() + pixels.at(c, 0),
                                            results.depth, std::min<int64_t>(kSpectraA, stop - o),
                                            sums + ((o - first) * g_.inputs_ + c) * kNumber,
                                            g_.inputs_ * kNumber, kNumber, !empty_});
      }
    }
  }
}

template <typename T>
void FrameSums<T>::drop(int64_t output) {
  const Grid& g = g_.grid_;
  kernels_.drop_windows({sums_ + output * g_.inputs_ * kNumber, g_.sum_plane(outputs_), kNumber,
                         taps_, g.kw, g.taps(), g_.inputs_, static_cast<int>(g.kh),
                         static_cast<int>(g.kw), nullptr, false});
}

template class FrameGradient<float>;
template class FrameGradient<double>;
template class FrameSums<float>;
template class FrameSums<double>;

}  // namespace fedfast
