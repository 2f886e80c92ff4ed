// One client's convolution products, shared by conv.cpp and conv_backward.cpp.
#pragma once

#include <vector>

#include "cpu/conv_plan.h"
#include "cpu/gemm_kernels.h"
#include "cpu/isa.h"

namespace fedfast {

constexpr int64_t kPerElement = 32;  // multiplications that take as long as an element elsewhere

// Pieces of one thread's scratch, each on its own cache lines.
template <typename T>
class Workspace {
 public:
  explicit Workspace(int64_t elements) : next_(scratch<T>(2, elements)) {}

  static int64_t rounded(int64_t elements) {
    constexpr int64_t line = 64 / sizeof(T);
    return (elements + line - 1) / line * line;
  }
  T* take(int64_t elements) {
    T* taken = next_;
    next_ += rounded(elements);
    return taken;
  }
  T* zeros(int64_t elements) {
    T* taken = take(elements);
    std::fill_n(taken, elements, T{0});
    return taken;
  }

 private:
  T* next_;
};

inline int64_t padded_to(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

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

// Memory that is needed soon, asked for a little with each of `tiles` tiles: what a product writes,
// or reads next, comes while it computes.
class Ahead {
 public:
  Ahead() = default;
  template <typename T>
  Ahead(const T* first, int64_t elements)
      : next_(reinterpret_cast<const char*>(first)),
        end_(next_ + elements * static_cast<int64_t>(sizeof(T))) {}

  void spread(int64_t tiles) {
    const int64_t lines = (end_ - next_ + kLineBytes - 1) / kLineBytes;
    step_ = (lines + tiles - 1) / std::max<int64_t>(tiles, 1) * kLineBytes;
  }
  void step() {
#if defined(__GNUC__)
    const char* stop = std::min(next_ + step_, end_);
    for (; next_ < stop; next_ += kLineBytes) __builtin_prefetch(next_, 0, 2);
#endif
  }

 private:
  const char *next_ = nullptr, *end_ = nullptr;
  int64_t step_ = 0;
};

// planes[c] = act(planes[c] + bias[c]); without bias and activation nothing.
template <typename T>
void finish(T* planes, const T* bias, int64_t channels, int64_t size, Act act);

// A product of a group of images with `channels` results per spot, in one of two ways: spots (one
// pixel times a vector of channels) or rows (one weight times a vector of columns).
template <typename T>
class ConvProduct {
 public:
  ConvProduct(ConvPlan plan, int64_t channels);

  const ConvPlan& plan() const { return plan_; }
  int64_t channels() const { return channels_; }
  bool by_rows() const { return by_rows_; }
  int64_t depth() const { return plan_.deep.size(); }
  int64_t width() const { return padded_to(channels_, kernels_.lanes); }

  // Elements of packed weights and of a group's results before they are turned into planes.
  int64_t weight_elements() const { return depth() * (by_rows_ ? channels_ : width()); }
  int64_t result_elements() const { return by_rows_ ? 0 : plan_.images * plan_.spots * width(); }
  double cost() const {
    return by_rows_ ? rows_cost(plan_, channels_) : spots_cost(plan_, channels_, kernels_.lanes);
  }
  int64_t padded_elements() const { return plan_.images * plan_.padded.size(); }

  // Packs weights given as [outer, channels, inner] (data gradient: the channel is the second
  // dimension) with outer * inner = depth.
  void pack(const T* weight, int64_t outer, T* to) const;

  // Writes `channels` planes of `images` images, `out_image` elements apart: act(sums + bias).
  void run(const T* padded, const T* weight, int64_t images, T* results, T* out, int64_t out_image,
           const T* bias = nullptr, Act act = Act::none) const;

 private:
  void pack_rows(const T* weight, int64_t outer, T* to) const;
  void run_rows(const T* padded, const T* weight, T* out, const T* bias, Act act) const;

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  ConvPlan plan_;
  int64_t channels_;
  bool by_rows_;
};

// Columns are worked on in panels, at most the widest tile across; in memory panel lies after
// panel: rows 1 or 2 KB apart would meet in a few sets of the first-level cache. Calls body(first
// column, columns) for each.
template <typename T, typename Body>
void each_panel(int64_t width, const Body& body) {
  const ConvKernels<T>& kernels = conv_kernels<T>();
  each(Cut(width / kernels.lanes, kernels.vectors),
       [&](int64_t v, int64_t vectors) { body(v * kernels.lanes, vectors * kernels.lanes); });
}

// c[to[j], columns] = (add ? itself : 0) + sum over `deep` of x[at[j] + deep] * b[deep, columns]
// for one panel, cut into tiles and into pieces of `deep` that stay in the first-level cache.
// Without `to`, row j. The order of each sum depends on `depth` alone. `ahead` is asked for
// meanwhile.
template <typename T>
void panel_product(const T* x, const int32_t* at, int64_t spots, const int32_t* deep, int64_t depth,
                   const T* b, int64_t columns, T* c, int64_t c_row, bool add,
                   const int32_t* to = nullptr, Ahead ahead = {});

// The same for all panels of `width` columns.
template <typename T>
void spots_product(const T* x, const int32_t* at, int64_t spots, const int32_t* deep, int64_t depth,
                   const T* b, int64_t width, T* c, bool add, const int32_t* to = nullptr,
                   Ahead ahead = {});

}  // namespace fedfast
