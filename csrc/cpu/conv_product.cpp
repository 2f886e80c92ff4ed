// The two ways of forming a convolution's products, and which instruction set's tiles they use.
#include <algorithm>

#include "cpu/conv.h"

namespace fedfast {
namespace {

constexpr int64_t kCachedBytes = 32 << 10;  // of b, read again for every tile: two thirds of L1

template <typename T>
struct Tables {
  ConvKernels<T> table[3];

  Tables() {
    portable_kernels(table[0]);
    if (!avx2_kernels(table[1])) table[1] = table[0];
    if (!avx512_kernels(table[2])) table[2] = table[1];
  }
};

// [start, stop) of piece i when `size` is cut evenly into pieces of at most `longest`.
struct Cut {
  int64_t size, pieces;

  Cut(int64_t size, int64_t longest) : size(size), pieces((size + longest - 1) / longest) {}
  int64_t start(int64_t i) const { return size * i / pieces; }
};

template <typename Body>
void each(const Cut& cut, const Body& body) {
  for (int64_t i = 0; i < cut.pieces; ++i) body(cut.start(i), cut.start(i + 1) - cut.start(i));
}

template <typename T>
int widest_tile(const ConvKernels<T>& kernels) {
  int vectors = kMaxSpotVectors;
  while (kernels.spots[vectors] == 0) --vectors;
  return vectors;
}

}  // namespace

template <typename T>
const ConvKernels<T>& conv_kernels() {
  static const Tables<T> tables;
  return tables.table[static_cast<int>(gemm_isa())];
}

template <typename T>
void spots_product(const T* x, const int32_t* at, int64_t spots, const int32_t* deep, int64_t depth,
                   const T* b, int64_t width, T* c, bool add, const int32_t* to, Ahead ahead) {
  const ConvKernels<T>& kernels = conv_kernels<T>();
  each(Cut(width / kernels.lanes, widest_tile(kernels)), [&](int64_t v, int64_t vectors) {
    const int64_t from = v * kernels.lanes, row_bytes = vectors * kernels.lanes * sizeof(T);
    const Cut depths(depth, kCachedBytes / row_bytes);
    if (v == 0) ahead.spread(depths.pieces * Cut(spots, kernels.spots[vectors]).pieces);
    each(depths, [&](int64_t d, int64_t length) {
      each(Cut(spots, kernels.spots[vectors]), [&](int64_t j, int64_t count) {
        ahead.step();
        T* rows = c + from + (to != nullptr ? 0 : j * width);
        kernels.spot[count][vectors]({x, at + j, deep + d, length, b + d * width + from, width,
                                      rows, width, add || d > 0, to != nullptr ? to + j : nullptr});
      });
    });
  });
}

template <typename T>
ConvProduct<T>::ConvProduct(ConvPlan plan, int64_t channels)
    : plan_(std::move(plan)), channels_(channels) {
  by_rows_ = !plan_.segments.empty() &&
             rows_cost(plan_, channels) < spots_cost(plan_, channels, kernels_.lanes);
  if (by_rows_) {  // image by image: there are no vectors of weights to share
    plan_.images = 1;
    plan_.at.resize(plan_.spots);
  }
}

template <typename T>
void ConvProduct<T>::pack(const T* weight, int64_t outer, T* to) const {
  if (by_rows_) return pack_rows(weight, outer, to);
  const int64_t inner = depth() / outer;
  std::fill_n(to, weight_elements(), T{0});
  for (int64_t o = 0; o < outer; ++o) {
    kernels_.transpose(weight + o * channels_ * inner, inner, channels_, inner,
                       to + o * inner * width(), width());
  }
}

template <typename T>
void ConvProduct<T>::pack_rows(const T* weight, int64_t outer, T* to) const {
  const int64_t inner = depth() / outer;
  each(Cut(channels_, kernels_.row_channels), [&](int64_t first, int64_t count) {
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t t = 0; t < inner; ++t) {
        for (int64_t i = first; i < first + count; ++i) {
          *to++ = weight[(o * channels_ + i) * inner + t];
        }
      }
    }
  });
}

template <typename T>
void ConvProduct<T>::run(const T* canvas, const T* weight, int64_t images, T* results, T* out,
                         int64_t out_image, const T* bias, Act act) const {
  if (by_rows_) return run_rows(canvas, weight, out, bias, act);
  const Ahead ahead(out, (images - 1) * out_image + channels_ * plan_.spots);
  spots_product(canvas, plan_.at.data(), images * plan_.spots, plan_.deep.data(), depth(), weight,
                width(), results, false, nullptr, ahead);
  for (int64_t i = 0; i < images; ++i) {
    T* image = out + i * out_image;
    kernels_.transpose(results + i * plan_.spots * width(), width(), plan_.spots, channels_, image,
                       plan_.spots);
    finish(image, bias, channels_, plan_.spots, act);
  }
}

template <typename T>
void ConvProduct<T>::run_rows(const T* canvas, const T* weight, T* out, const T* bias,
                              Act act) const {
  const Cut channels(channels_, kernels_.row_channels);
  each(Cut(plan_.segments.size(), kMaxRowSegments), [&](int64_t s, int64_t pieces) {
    each(channels, [&](int64_t first, int64_t count) {
      kernels_.row[count][pieces]({canvas, &plan_.segments[s], plan_.deep.data(), depth(),
                                   weight + first * depth(), bias ? bias + first : nullptr,
                                   act == Act::relu, out + first * plan_.spots, plan_.spots});
    });
  });
  if (act == Act::tanh) finish(out, static_cast<const T*>(nullptr), channels_, plan_.spots, act);
}

template const ConvKernels<float>& conv_kernels();
template const ConvKernels<double>& conv_kernels();
template void spots_product(const float*, const int32_t*, int64_t, const int32_t*, int64_t,
                            const float*, int64_t, float*, bool, const int32_t*, Ahead);
template void spots_product(const double*, const int32_t*, int64_t, const int32_t*, int64_t,
                            const double*, int64_t, double*, bool, const int32_t*, Ahead);
template class ConvProduct<float>;
template class ConvProduct<double>;

}  // namespace fedfast
