#include "cpu/conv.h"

#include <optional>

#include "cpu/conv_planes.h"
#include "cpu/conv_square_product.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// How the products are formed, for all clients.
template <typename T>
struct Ways {
  std::optional<ConvProduct<T>> direct;
  std::optional<SquareProduct<T>> squares;

  explicit Ways(const ConvShape& s) {
    direct.emplace(plan_forward(s, conv_kernels<T>().lanes), s.group_outputs());
    if (!has_squares(s.window)) return;
    const Grid grid = forward_grid(s.window);
    const double cost = squares_cost(grid, s.batch, s.group_inputs(), s.group_outputs(),
                                     conv_kernels<T>().lanes);
    if (cost >= direct->cost()) return;
    squares.emplace(grid, s.batch, s.group_inputs(), s.group_outputs(), false);
  }
  int64_t images() const { return squares ? squares->images() : direct->plan().images; }
};

template <typename T>
void one_client(const Conv<T>& p, const ConvProduct<T>& product, int64_t k) {
  const ConvShape& s = p.shape;
  const int64_t spots = s.window.spots(), images = product.plan().images;
  const int64_t in_image = s.inputs * s.window.pixels(), out_image = s.outputs * spots;
  Workspace<T> workspace(Workspace<T>::rounded(product.canvas_elements()) +
                         Workspace<T>::rounded(product.weight_elements()) +
                         product.result_elements());
  T* weight = workspace.take(product.weight_elements());
  Easel<T> easel(product.plan(), s.groups, &workspace);
  T* results = workspace.take(product.result_elements());
  for (int64_t g = 0; g < s.groups; ++g) {
    const int64_t first = g * s.group_outputs();
    product.pack(p.weight.row(k) + first * s.depth(), 1, weight);
    for (int64_t b = 0; b < s.batch; b += images) {
      const int64_t count = std::min(images, s.batch - b);
      const T* x = p.x.row(k) + b * in_image + g * s.group_inputs() * s.window.pixels();
      T* out = p.out.row(k) + b * out_image + first * spots;
      const T* bias = p.bias ? p.bias.row(k) + first : nullptr;
      product.run(easel.show(x, in_image, count), weight, count, results, out, out_image, bias,
                  p.act);
    }
  }
}

template <typename T>
void one_client(const Conv<T>& p, const SquareProduct<T>& product, int64_t k) {
  const ConvShape& s = p.shape;
  const int64_t spots = s.window.spots(), images = product.images();
  const int64_t in_image = s.inputs * s.window.pixels(), out_image = s.outputs * spots;
  Workspace<T> workspace(product.elements());
  SquarePass<T> pass(product, workspace);
  for (int64_t g = 0; g < s.groups; ++g) {
    const int64_t first = g * s.group_outputs();
    pass.pack(p.weight.row(k) + first * s.depth(), 1);
    for (int64_t b = 0; b < s.batch; b += images) {
      const int64_t count = std::min(images, s.batch - b);
      const T* x = p.x.row(k) + b * in_image + g * s.group_inputs() * s.window.pixels();
      T* out = p.out.row(k) + b * out_image + first * spots;
      const T* bias = p.bias ? p.bias.row(k) + first : nullptr;
      pass.run(x, in_image, count, out, out_image, bias, p.act);
    }
  }
}

}  // namespace

template <typename T>
void conv(int64_t clients, int threads, const Conv<T>& p) {
  const Ways<T> ways(p.shape);
  const int64_t work = clients * p.shape.batch * p.shape.outputs * p.shape.window.spots();
  parallel(worth(threads, clients, work * p.shape.depth() / kPerElement), clients,
           [&](int64_t k, int64_t last) {
             for (; k < last; ++k) {
               if (ways.squares) one_client(p, *ways.squares, k);
               else one_client(p, *ways.direct, k);
             }
           });
}

template void conv(int64_t, int, const Conv<float>&);
template void conv(int64_t, int, const Conv<double>&);

}  // namespace fedfast
