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

}  // namespace

template <typename T>
const ConvKernels<T>& conv_kernels() {
  static const Tables<T> tables;
  return tables.table[static_cast<int>(gemm_isa())];
}

template <typename T>
void panel_product(const T* x, const int32_t* at, int64_t spots, const int32_t* deep, int64_t depth,
                   const T* b, int64_t columns, T* c, int64_t c_row, bool add, const int32_t* to,
                   Ahead ahead) {
  const ConvKernels<T>& kernels = conv_kernels<T>();
  const int64_t vectors = columns / kernels.lanes, widest = kernels.vectors * kernels.lanes;
  const Cut depths(depth, kCachedBytes / (widest * static_cast<int64_t>(sizeof(T))));
  const Cut tiles(spots, kernels.spots[vectors]);
  ahead.spread(depths.pieces * tiles.pieces);
  each(depths, [&](int64_t d, int64_t length) {
    each(tiles, [&](int64_t j, int64_t count) {
      ahead.step();
      kernels.spot[count][vectors]({x, at + j, deep + d, length, b + d * columns, columns,
                                    to != nullptr ? c : c + j * c_row, c_row, add || d > 0,
                                    to != nullptr ? to + j : nullptr});
    });
  });
}

template <typename T>
void spots_product(const T* x, const int32_t* at, int64_t spots, const int32_t* deep, int64_t depth,
                   const T* b, int64_t width, T* c, bool add, const int32_t* to, Ahead ahead) {
  each_panel<T>(width, [&](int64_t from, int64_t columns) {
    panel_product(x, at, spots, deep, depth, b + from * depth, columns, c + from, width, add, to,
                  from == 0 ? ahead : Ahead());
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
  each_panel<T>(width(), [&](int64_t from, int64_t columns) {
    const int64_t channels = std::min(columns, channels_ - from);
    for (int64_t o = 0; o < outer; ++o) {
      kernels_.transpose(weight + (o * channels_ + from) * inner, inner, channels, inner,
                         to + from * depth() + o * inner * columns, columns);
    }
  });
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
void ConvProduct<T>::run(const T* padded, const T* weight, int64_t images, T* results, T* out,
                         int64_t out_image, const T* bias, Act act) const {
  if (by_rows_) return run_rows(padded, weight, out, bias, act);
  const Ahead ahead(out, (images - 1) * out_image + channels_ * plan_.spots);
  spots_product(padded, plan_.at.data(), images * plan_.spots, plan_.deep.data(), depth(), weight,
                width(), results, false, nullptr, ahead);
  for (int64_t i = 0; i < images; ++i) {
    T* image = out + i * out_image;
    kernels_.transpose(results + i * plan_.spots * width(), width(), plan_.spots, channels_, image,
                       plan_.spots);
    finish(image, bias, channels_, plan_.spots, act);
  }
}

template <typename T>
void ConvProduct<T>::run_rows(const T* padded, const T* weight, T* out, const T* bias,
                              Act act) const {
  const Cut channels(channels_, kernels_.row_channels);
  each(Cut(plan_.segments.size(), kMaxRowSegments), [&](int64_t s, int64_t pieces) {
    each(channels, [&](int64_t first, int64_t count) {
      kernels_.row[count][pieces]({padded, &plan_.segments[s], plan_.deep.data(), depth(),
                                   weight + first * depth(), bias ? bias + first : nullptr,
                                   act == Act::relu, out + first * plan_.spots, plan_.spots});
    });
  });
  if (act == Act::tanh) finish(out, static_cast<const T*>(nullptr), channels_, plan_.spots, act);
}

template const ConvKernels<float>& conv_kernels();
template const ConvKernels<double>& conv_kernels();
template void panel_product(const float*, const int32_t*, int64_t, const int32_t*, int64_t,
                            const float*, int64_t, float*, int64_t, bool, const int32_t*, Ahead);
template void panel_product(const double*, const int32_t*, int64_t, const int32_t*, int64_t,
                            const double*, int64_t, double*, int64_t, bool, const int32_t*, Ahead);
template void spots_product(const float*, const int32_t*, int64_t, const int32_t*, int64_t,
                            const float*, int64_t, float*, bool, const int32_t*, Ahead);
template void spots_product(const double*, const int32_t*, int64_t, const int32_t*, int64_t,
                            const double*, int64_t, double*, bool, const int32_t*, Ahead);
template class ConvProduct<float>;
template class ConvProduct<double>;

}  // namespace fedfast
