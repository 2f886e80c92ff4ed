#include "cpu/conv.h"

#include <algorithm>
#include <optional>

#include "cpu/conv_frame_product.h"
#include "cpu/conv_planes.h"
#include "cpu/conv_pool.h"
#include "cpu/conv_square_product.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// What all tasks of a call share: how the products are formed.
template <typename T>
class Forward {
 public:
  explicit Forward(const Conv<T>& p)
      : p_(p), direct_(plan_forward(p.shape, conv_kernels<T>().lanes), p.shape.group_outputs()) {
    const ConvShape& s = p.shape;
    if (!has_squares(s.window)) return;
    const int64_t depth = s.group_inputs(), channels = s.group_outputs();
    const int lanes = conv_kernels<T>().lanes;
    const Grid grid = forward_grid(s.window);
    const double cost =
        std::min(direct_.cost(), squares_cost(grid, s.batch, depth, channels, lanes));
    if (has_frames<T>(s.window, depth, channels) &&
        frames_cost(grid, s.batch, depth, channels, lanes) < cost) {
      frames_.emplace(grid, s.batch, depth, channels);
    } else if (cost < direct_.cost()) {
      squares_.emplace(grid, s.batch, depth, channels);
    }
  }

  // Some images of client k.
  void run(int64_t k, const Range& images) const {
    if (frames_) return lifted<FramePass<T>>(*frames_, k, images);
    if (squares_) return lifted<SquarePass<T>>(*squares_, k, images);
    directly(k, images);
  }

 private:
  int64_t in_image() const { return p_.shape.inputs * p_.shape.window.pixels(); }
  int64_t out_image() const { return p_.shape.outputs * p_.spots(); }

  // A group's weights, bias, and planes from image b on.
  const T* weight(int64_t k, int64_t g) const {
    return p_.weight.row(k) + g * p_.shape.group_outputs() * p_.shape.depth();
  }
  const T* bias(int64_t k, int64_t g) const {
    return p_.bias ? p_.bias.row(k) + g * p_.shape.group_outputs() : nullptr;
  }
  const T* x(int64_t k, int64_t g, int64_t b) const {
    return p_.x.row(k) + b * in_image() + g * p_.shape.group_inputs() * p_.shape.window.pixels();
  }
  T* out(int64_t k, int64_t g, int64_t b) const {
    return p_.out.row(k) + b * out_image() + g * p_.shape.group_outputs() * p_.spots();
  }

  // Planes of some images before they are pooled; none where they are not.
  int64_t plane_elements(int64_t images) const {
    return p_.tap ? images * p_.shape.group_outputs() * p_.shape.window.spots() : 0;
  }

  // Has `run(out, elements of an image)` write a group's planes of images b on: pooled on the way,
  // while they are in cache.
  template <typename Run>
  void through(int64_t k, int64_t g, int64_t b, int64_t images, T* planes, const Run& run) const {
    T* to = out(k, g, b);
    if (!p_.tap) return run(to, out_image());
    const int64_t image = plane_elements(1);
    run(planes, image);
    uint8_t* tap = p_.tap.row(k) + (to - p_.out.row(k));
    for (int64_t i = 0; i < images; ++i) {
      const int64_t at = i * out_image();
      take_largest(p_.pool, planes + i * image, p_.shape.group_outputs(), to + at, tap + at);
    }
  }

  void directly(int64_t k, const Range& images) const {
    const auto rounded = Workspace<T>::rounded;
    Workspace<T> workspace(rounded(direct_.padded_elements()) + rounded(direct_.weight_elements()) +
                           rounded(direct_.result_elements()) +
                           plane_elements(direct_.plan().images));
    T* packed = workspace.take(direct_.weight_elements());
    Padder<T> padder(direct_.plan(), p_.shape.groups, &workspace);
    T* results = workspace.take(direct_.result_elements());
    T* planes = workspace.take(plane_elements(direct_.plan().images));
    for (int64_t g = 0; g < p_.shape.groups; ++g) {
      direct_.pack(weight(k, g), 1, packed);
      images.each(direct_.plan().images, [&](int64_t b, int64_t count) {
        through(k, g, b, count, planes, [&](T* to, int64_t image) {
          direct_.run(padder.pad(x(k, g, b), in_image(), count), packed, count, results, to, image,
                      bias(k, g), p_.act);
        });
      });
    }
  }

  // By squares or frames.
  template <typename Pass, typename Product>
  void lifted(const Product& product, int64_t k, const Range& images) const {
    const int64_t pooled = plane_elements(product.images());
    Workspace<T> workspace(Workspace<T>::rounded(product.elements()) + pooled);
    Pass pass(product, workspace);
    T* planes = workspace.take(pooled);
    for (int64_t g = 0; g < p_.shape.groups; ++g) {
      pass.pack(weight(k, g), 1);
      images.each(product.images(), [&](int64_t b, int64_t count) {
        through(k, g, b, count, planes, [&](T* to, int64_t image) {
          pass.run(x(k, g, b), in_image(), count, to, image, bias(k, g), p_.act);
        });
      });
    }
  }

  const Conv<T>& p_;
  ConvProduct<T> direct_;
  std::optional<SquareProduct<T>> squares_;
  std::optional<FrameProduct<T>> frames_;
};

}  // namespace

template <typename T>
void conv(int64_t clients, int threads, const Conv<T>& p) {
  const ConvShape& s = p.shape;
  const Forward<T> forward(p);
  const int64_t work = clients * s.batch * s.outputs * s.window.spots() * s.depth() / kPerElement;
  threads = worth(threads, clients * s.batch, work);
  const int64_t parts = parts_for(threads, clients, s.batch);
  parallel(threads, clients * parts, [&](int64_t i, int64_t last) {
    for (; i < last; ++i) forward.run(i / parts, part_of(s.batch, 1, i % parts, parts));
  });
}

template void conv(int64_t, int, const Conv<float>&);
template void conv(int64_t, int, const Conv<double>&);

}  // namespace fedfast
