#include "cpu/conv_square_product.h"

#include <algorithm>

namespace fedfast {
namespace {

constexpr int64_t kCachedBytes = 5 << 18;  // of lifted squares and products, in the second cache
constexpr int64_t kFewest = 64;            // squares that pay for reading the weights

template <typename T>
int64_t together(int64_t in_width, int64_t widest) {
  const int64_t bytes = kPlanes * (in_width + widest) * static_cast<int64_t>(sizeof(T));
  return std::max(kFewest, kCachedBytes / bytes);
}

}  // namespace

template <typename T>
SquareProduct<T>::SquareProduct(const Grid& grid, int64_t batch, int64_t depth, int64_t channels,
                                bool turned)
    : depth_(depth), channels_(channels) {
  squares_ = squares_of(grid, batch, together<T>(in_width(), widest()));
  taps_at_ = taps_at(kTapChannels, turned);
  at_ = steps_of(squares_.together, in_width());
  deep_ = steps_of(depth, 1);
}

template <typename T>
int64_t SquareProduct<T>::elements() const {
  const auto rounded = Workspace<T>::rounded;
  return panels() * rounded(kPlanes * weight_plane()) +
         rounded(kTapChannels * kTaps * widest()) + rounded(pixel_rows() * in_width()) +
         rounded(kPlanes * lifted_plane()) + rounded(kPlanes * product_plane()) +
         rounded(result_rows() * out_width());
}

template <typename T>
SquarePass<T>::SquarePass(const SquareProduct<T>& product, Workspace<T>& workspace)
    : p_(product),
      kernels_(product.kernels_),
      weight_(workspace.take(p_.panels() * kPlanes * p_.weight_plane())),
      taps_(workspace.zeros(kTapChannels * kTaps * p_.widest())),
      pixels_(workspace.zeros(p_.pixel_rows() * p_.in_width())),
      lifted_(workspace.take(kPlanes * p_.lifted_plane())),
      products_(workspace.take(kPlanes * p_.product_plane())),
      results_(workspace.take(p_.result_rows() * p_.out_width())) {}

template <typename T>
void SquarePass<T>::pack(const T* weight, int64_t outer) {
  T* to = weight_;
  each_panel<T>(p_.out_width(), [&](int64_t from, int64_t columns) {
    pack_panel(weight, outer, from, columns, to);
    to += kPlanes * p_.weight_plane();
  });
}

template <typename T>
void SquarePass<T>::pack_panel(const T* weight, int64_t outer, int64_t from, int64_t columns,
                               T* to) {
  const int64_t channels = std::min(columns, p_.channels_ - from);
  const int64_t inner = p_.depth_ * kTaps / outer;
  for (int64_t d = 0; d < p_.depth_; d += kTapChannels) {
    const int64_t count = std::min(kTapChannels, p_.depth_ - d);
    if (outer == 1) {
      kernels_.transpose(weight + from * inner + d * kTaps, inner, channels, count * kTaps, taps_,
                         columns);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        kernels_.transpose(weight + ((d + i) * p_.channels_ + from) * kTaps, kTaps, channels, kTaps,
                           taps_ + i * kTaps * columns, columns);
      }
    }
    kernels_.lift_taps({taps_, columns, p_.taps_at_.data(), count, columns, to + d * columns,
                        p_.weight_plane()});
  }
}

template <typename T>
void SquarePass<T>::run(const T* x, int64_t in_image, int64_t images, T* out, int64_t out_image,
                        const T* bias, Act act) {
  const Squares& s = p_.squares_;
  for (int64_t i = 0; i < images; ++i) {
    kernels_.transpose(x + i * in_image, s.inputs, p_.depth_, s.inputs,
                       pixels_ + i * s.inputs * p_.in_width(), p_.in_width());
  }
  each(Cut(images * s.each, s.together),
       [&](int64_t first, int64_t count) { multiply(first, count); });
  for (int64_t i = 0; i < images; ++i) {
    T* image = out + i * out_image;
    kernels_.transpose(results_ + i * s.results * p_.out_width(), p_.out_width(), s.results,
                       p_.channels_, image, s.results);
    finish(image, bias, p_.channels_, s.results, act);
  }
}

template <typename T>
void SquarePass<T>::multiply(int64_t first, int64_t count) {
  const Squares& s = p_.squares_;
  kernels_.lift_pixels({pixels_, p_.in_width(), &s.from[first * 16], count, p_.in_width(), lifted_,
                        p_.lifted_plane()});
  const T* weight = weight_;
  each_panel<T>(p_.out_width(), [&](int64_t from, int64_t columns) {
    for (int64_t i = 0; i < kPlanes; ++i) {
      panel_product<T>(lifted_ + i * p_.lifted_plane(), p_.at_.data(), count, p_.deep_.data(),
                       p_.depth_, weight + i * p_.weight_plane(), columns,
                       products_ + i * p_.product_plane(), columns, false);
    }
    kernels_.drop_results({products_, p_.product_plane(), count, columns, results_ + from,
                           p_.out_width(), &s.to[first * 4]});
    weight += kPlanes * p_.weight_plane();
  });
}

template class SquareProduct<float>;
template class SquareProduct<double>;
template class SquarePass<float>;
template class SquarePass<double>;

}  // namespace fedfast
