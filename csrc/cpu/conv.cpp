#include "cpu/conv.h"

#include "cpu/conv_planes.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

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

}  // namespace

template <typename T>
void conv(int64_t clients, int threads, const Conv<T>& p) {
  const ConvProduct<T> product(plan_forward(p.shape, conv_kernels<T>().lanes),
                               p.shape.group_outputs());
  const int64_t work = clients * p.shape.batch * p.shape.outputs * p.shape.window.spots();
  parallel(worth(threads, clients, work * p.shape.depth() / kPerElement), clients,
           [&](int64_t k, int64_t last) {
             for (; k < last; ++k) one_client(p, product, k);
           });
}

template void conv(int64_t, int, const Conv<float>&);
template void conv(int64_t, int, const Conv<double>&);

}  // namespace fedfast
