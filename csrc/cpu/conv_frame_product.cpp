#include "cpu/conv_frame_product.h"

#include <algorithm>

namespace fedfast {

template <typename T>
FrameProduct<T>::FrameProduct(const Grid& grid, int64_t batch, int64_t depth, int64_t channels)
    : grid_(grid),
      frames_(frames_of(grid)),
      images_(images_of_frames(grid, batch, depth, channels)),
      depth_(depth),
      channels_(channels),
      panel_(panel_of_windows(frames(images_), depth, channels)) {}

template <typename T>
int64_t FrameProduct<T>::elements() const {
  const auto rounded = Workspace<T>::rounded;
  return rounded(kSpectrumRows * weights().plane()) + rounded(depth_ * grid_.taps()) +
         rounded(kSpectrumRows * lifted(images_).plane()) +
         rounded(kSpectrumRows * product_plane());
}

template <typename T>
FramePass<T>::FramePass(const FrameProduct<T>& product, Workspace<T>& workspace)
    : p_(product),
      kernels_(product.kernels_),
      weights_(workspace.take(kSpectrumRows * p_.weights().plane())),
      turned_(workspace.take(p_.depth_ * p_.grid_.taps())),
      lifted_(workspace.take(kSpectrumRows * p_.lifted(p_.images_).plane())),
      products_(workspace.take(kSpectrumRows * p_.product_plane())) {}

template <typename T>
void FramePass<T>::pack(const T* weight, int64_t outer) {
  weight_ = weight;
  outer_ = outer;
  if (p_.panel_ == p_.channels_) lift_weights(0);
}

// Those of a panel.
template <typename T>
void FramePass<T>::lift_weights(int64_t first) {
  const Blocks to = p_.weights();
  const Grid& g = p_.grid_;
  const int64_t taps = g.taps(), count = std::min(p_.panel_, p_.channels_ - first);
  const int64_t apart = outer_ == 1 ? taps : p_.channels_ * taps;  // channels of the depth
  for (int64_t c = 0; c < count; ++c) {
    const T* from = weight_ + (first + c) * (outer_ == 1 ? p_.depth_ : 1) * taps;
    for (int64_t d = 0; g.turned && d < p_.depth_; ++d) {
      std::reverse_copy(from + d * apart, from + d * apart + taps, turned_ + d * taps);
    }
    kernels_.lift_windows({g.turned ? turned_ : from, g.kw, g.turned ? taps : apart, p_.depth_, 0,
                           0, static_cast<int>(g.kh), static_cast<int>(g.kw),
                           weights_ + to.at(c, 0), to.plane(), to.across(c) * kNumber});
  }
}

template <typename T>
void FramePass<T>::run(const T* x, int64_t in_image, int64_t images, T* out, int64_t out_image,
                       const T* bias, Act act) {
  const Blocks lifted = p_.lifted(images);
  for (int64_t i = 0; i < images; ++i) lift(x + i * in_image, p_.frames(i), lifted);
  for (int64_t c = 0; c < p_.channels_; c += p_.panel_) {
    if (p_.panel_ < p_.channels_) lift_weights(c);
    multiply(lifted, c);
  }
  for (int64_t i = 0; i < images; ++i) {
    drop(x + i * in_image, p_.frames(i), out + i * out_image, bias, act);
  }
}

template <typename T>
void FramePass<T>::lift(const T* image, int64_t first, const Blocks& lifted) {
  const Grid& g = p_.grid_;
  for (const Frame& f : p_.frames_) {
    SpectrumLift<T> planes = lift_pixels(g, f, image);
    planes.count = p_.depth_;
    planes.to = lifted_ + lifted.at(first, 0);
    planes.to_plane = lifted.plane();
    planes.to_step = lifted.across(first++) * kNumber;
    kernels_.lift_square(planes);
  }
}

template <typename T>
void FramePass<T>::multiply(const Blocks& lifted, int64_t first) {
  const Blocks weights = p_.weights();
  const int64_t frame = p_.channels_ * kNumber;
  const int64_t channels = std::min(p_.panel_, p_.channels_ - first);
  for (int row = 0; row < kSpectrumRows; ++row) {
    T* products = products_ + row * p_.product_plane() + first * kNumber;
    for (int64_t c = 0; c < channels; c += kSpectraA) {
      const T* weight = weights_ + row * weights.plane() + weights.at(c, 0);
      for (int64_t n = 0; n < lifted.rows; n += kSpectraB) {
        kernels_.spectra[lifted.across(n)](
            {weight, lifted_ + row * lifted.plane() + lifted.at(n, 0), p_.depth_,
             std::min<int64_t>(kSpectraA, channels - c), products + n * frame + c * kNumber,
             kNumber, frame, false});
      }
    }
  }
}

// What the windows see of an image decides whether results can be finished while they are dropped.
template <typename T>
void FramePass<T>::drop(const T* image, int64_t first, T* out, const T* bias, Act act) {
  const Grid& g = p_.grid_;
  const int64_t results = g.rows * g.columns;
  std::vector<SeenPixels<T>> seen;
  for (const Frame& f : p_.frames_) seen.emplace_back(g, f, image, p_.depth_);
  const bool at_once = act != Act::tanh &&
                       std::all_of(seen.begin(), seen.end(), [](const auto& s) { return s.all(); });
  for (const Frame& f : p_.frames_) {
    kernels_.drop_square({products_ + first++ * p_.channels_ * kNumber, p_.product_plane(), kNumber,
                          out + f.y * g.columns + f.x, g.columns, results, p_.channels_,
                          static_cast<int>(f.rows), static_cast<int>(f.columns),
                          at_once ? bias : nullptr, at_once && act == Act::relu});
  }
  if (at_once) return;
  for (const SeenPixels<T>& s : seen) {
    for (int64_t c = 0; c < p_.channels_ && !s.all(); ++c) s.clear(out + c * results);
  }
  finish(out, bias, p_.channels_, results, act);
}

template class FrameProduct<float>;
template class FrameProduct<double>;
template class FramePass<float>;
template class FramePass<double>;

}  // namespace fedfast
