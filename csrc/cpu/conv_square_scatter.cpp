#include "cpu/conv_square_scatter.h"

#include <algorithm>

#include "cpu/parallel.h"

namespace fedfast {
namespace {

constexpr int64_t kTogether = 64;  // squares that pay for reading the weights

}  // namespace

template <typename T>
SquareScatter<T>::SquareScatter(const ConvShape& shape)
    : inputs_(shape.group_inputs()),
      outputs_(shape.group_outputs()),
      squares_(squares_of(forward_grid(shape.window), shape.batch, kTogether)),
      at_(steps_of(squares_.together, lifted_row())),
      deep_(steps_of(outputs_, 1)) {}

template <typename T>
int64_t SquareScatter<T>::elements() const {
  const auto rounded = Workspace<T>::rounded;
  return SquareWeights<T>::elements(squares_, outputs_, inputs_) +
         rounded(result_rows() * in_width()) + rounded(kPlanes * lifted_plane()) +
         rounded(kPlanes * product_plane()) + rounded(pixel_rows() * out_width());
}

template <typename T>
ScatterPass<T>::ScatterPass(const SquareScatter<T>& scatter, Workspace<T>& workspace)
    : s_(scatter),
      kernels_(s_.kernels_),
      weights_(s_.squares_, s_.outputs_, s_.inputs_, workspace),
      results_(workspace.zeros(s_.result_rows() * s_.in_width())),
      lifted_(workspace.take(kPlanes * s_.lifted_plane())),
      products_(workspace.take(kPlanes * s_.product_plane())),
      pixels_(workspace.take(s_.pixel_rows() * s_.out_width())) {}

// Squares are lifted together within an image, or of whole images: which other images there are
// never changes the order in which a pixel's squares are added.
template <typename T>
void ScatterPass<T>::run(const T* dout, int64_t out_image, int64_t images, T* dx,
                         int64_t in_image) {
  const Squares& s = s_.squares_;
  for (int64_t i = 0; i < images; ++i) {
    kernels_.transpose(dout + i * out_image, s.results, s_.outputs_, s.results,
                       results_ + i * s.results * s_.in_width(), s_.in_width());
  }
  std::fill_n(pixels_, s_.pixel_rows() * s_.out_width(), T{0});
  const int64_t whole = std::max<int64_t>(1, s.together / s.each) * s.each;
  Range{0, images * s.each}.each(whole, [&](int64_t from, int64_t squares) {
    each(Cut(squares, s.together),
         [&](int64_t first, int64_t count) { multiply(from + first, count); });
  });
  for (int64_t i = 0; i < images; ++i) {
    kernels_.transpose(pixels_ + i * s.inputs * s_.out_width(), s_.out_width(), s.inputs,
                       s_.inputs_, dx + i * in_image, s.inputs);
  }
}

template <typename T>
void ScatterPass<T>::multiply(int64_t first, int64_t count) {
  const Squares& s = s_.squares_;
  kernels_.lift_results({results_, s_.in_width(), &s.results_at[first * 4], count, s_.in_width(),
                         lifted_, s_.lifted_plane(), s_.lifted_row()});
  const T* weight = weights_.panels();
  each_panel<T>(s_.out_width(), [&](int64_t from, int64_t columns) {
    for (size_t b = 0; b < s.blocks.size(); ++b) {
      const auto block = static_cast<int64_t>(b);
      multiply_block(block, count, weight + block * s_.outputs_ * columns, columns);
      kernels_.drop_pixels({products_, s_.product_plane(), columns, count, columns, pixels_ + from,
                            s_.out_width(), s.block_pixels(b, first)});
    }
    weight += kPlanes * weights_.plane();
  });
}

template <typename T>
void ScatterPass<T>::multiply_block(int64_t block, int64_t count, const T* weight,
                                    int64_t columns) {
  for (int i = 0; i < kPlanes; ++i) {
    T* products = products_ + i * s_.product_plane();
    if (!has_plane(s_.squares_.blocks[block], i)) {
      std::fill_n(products, count * columns, T{0});
      continue;
    }
    panel_product<T>(lifted_ + i * s_.lifted_plane(), s_.at_.data(), count, s_.deep_.data(),
                     s_.outputs_, weight + i * weights_.plane(), columns, products, columns, false);
  }
}

template class SquareScatter<float>;
template class SquareScatter<double>;
template class ScatterPass<float>;
template class ScatterPass<double>;

}  // namespace fedfast
