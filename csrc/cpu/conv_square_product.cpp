#include "cpu/conv_square_product.h"

#include <algorithm>

namespace fedfast {
namespace {

constexpr int64_t kCachedBytes = 5 << 18;  // of lifted squares and products, in the second cache
constexpr int64_t kFewest = 64;            // squares that pay for reading the weights

}  // namespace

template <typename T>
SquareProduct<T>::SquareProduct(const Grid& grid, int64_t batch, int64_t depth, int64_t channels)
    : depth_(depth), channels_(channels) {
  squares_ = squares_of(grid, batch, 1);  // for its blocks
  const int64_t bytes = kPlanes * (lifted_row() + widest()) * static_cast<int64_t>(sizeof(T));
  squares_ = squares_of(grid, batch, std::max(kFewest, kCachedBytes / bytes));
  at_ = steps_of(squares_.together, lifted_row());
  for (int64_t b = 0; b < blocks(); ++b) {
    for (int64_t d = 0; d < depth; ++d) deep_.push_back(static_cast<int32_t>(b * in_width() + d));
  }
}

template <typename T>
int64_t SquareProduct<T>::elements() const {
  const auto rounded = Workspace<T>::rounded;
  return SquareWeights<T>::elements(squares_, depth_, channels_) +
         rounded(pixel_rows() * in_width()) + rounded(kPlanes * lifted_plane()) +
         rounded(kPlanes * product_plane()) + rounded(result_rows() * out_width());
}

template <typename T>
SquarePass<T>::SquarePass(const SquareProduct<T>& product, Workspace<T>& workspace)
    : p_(product),
      kernels_(product.kernels_),
      weights_(p_.squares_, p_.depth_, p_.channels_, workspace),
      pixels_(workspace.zeros(p_.pixel_rows() * p_.in_width())),
      lifted_(workspace.take(kPlanes * p_.lifted_plane())),
      products_(workspace.zeros(kPlanes * p_.product_plane())),  // no block may have a plane
      results_(workspace.take(p_.result_rows() * p_.out_width())) {}

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
void SquarePass<T>::lift(int64_t first, int64_t count) {
  for (int64_t b = 0; b < p_.blocks(); ++b) {
    kernels_.lift_pixels({pixels_, p_.in_width(), p_.squares_.block_pixels(b, first), count,
                          p_.in_width(), lifted_ + b * p_.in_width(), p_.lifted_plane(),
                          p_.lifted_row()});
  }
}

template <typename T>
void SquarePass<T>::multiply(int64_t first, int64_t count) {
  lift(first, count);
  const T* weight = weights_.panels();
  each_panel<T>(p_.out_width(), [&](int64_t from, int64_t columns) {
    for (int i = 0; i < kPlanes; ++i, weight += weights_.plane()) {
      const Ahead next(weight + weights_.plane(), p_.blocks() * p_.depth_ * columns);
      multiply_plane(i, count, weight, columns, next);
    }
    kernels_.drop_results({products_, p_.product_plane(), columns, count, columns, results_ + from,
                           p_.out_width(), &p_.squares_.results_at[first * 4]});
  });
}

template <typename T>
void SquarePass<T>::multiply_plane(int plane, int64_t count, const T* weight, int64_t columns,
                                   Ahead ahead) {
  const std::vector<Run>& runs = p_.squares_.runs[plane];
  for (const Run& run : runs) {
    panel_product<T>(
        lifted_ + plane * p_.lifted_plane() + run.first * p_.in_width(), p_.at_.data(), count,
        p_.deep_.data(), run.count * p_.depth_, weight + run.first * p_.depth_ * columns, columns,
        products_ + plane * p_.product_plane(), columns, &run != &runs.front(), nullptr, ahead);
  }
}

template class SquareProduct<float>;
template class SquareProduct<double>;
template class SquarePass<float>;
template class SquarePass<double>;

}  // namespace fedfast
