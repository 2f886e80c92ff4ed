// Through the activation, then the data gradient, then the weight gradient: dweight may be weight.
#include <algorithm>
#include <vector>

#include "cpu/conv_planes.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// How the weight gradient is summed: c[tap, output] as spots, or c[output, tap, lane] as rows.
template <typename T>
class WeightGradient {
 public:
  explicit WeightGradient(const ConvShape& shape)
      : plan_(plan_forward(shape, kernels_.lanes)), shape_(shape) {
    by_rows_ = !plan_.segments.empty() &&
               rows_cost(plan_, outputs()) < spots_cost(plan_, outputs(), kernels_.lanes);
  }

  const ConvPlan& plan() const { return plan_; }
  int64_t outputs() const { return shape_.group_outputs(); }
  int64_t taps() const { return plan_.deep.size(); }
  int64_t width() const { return padded_to(outputs(), kernels_.lanes); }
  int64_t sums() const { return taps() * (by_rows_ ? outputs() * kernels_.lanes : width()); }
  int64_t turned() const { return by_rows_ ? 0 : plan_.images * plan_.spots * width(); }
  int64_t canvases() const { return plan_.images * plan_.canvas.size(); }

  // Adds a group of images to `sums`; `turned` is where dout's channels come to lie side by side.
  void add(const T* canvas, const T* dout, int64_t dout_image, int64_t images, T* turned,
           T* sums) const {
    if (by_rows_) return add_rows(canvas, dout, dout_image, images, sums);
    for (int64_t i = 0; i < images; ++i) {
      kernels_.transpose(dout + i * dout_image, plan_.spots, outputs(), plan_.spots,
                         turned + i * plan_.spots * width(), width());
    }
    spots_product(canvas, plan_.deep.data(), taps(), plan_.at.data(), images * plan_.spots,
                  static_cast<const T*>(turned), width(), sums, true);
  }

  // The gradient of weight [output, tap].
  T value(const T* sums, int64_t output, int64_t tap) const {
    if (!by_rows_) return sums[tap * width() + output];
    const T* lane = sums + (output * taps() + tap) * kernels_.lanes;
    T sum = 0;
    for (int i = 0; i < kernels_.lanes; ++i) sum += lane[i];
    return sum;
  }

 private:
  void add_rows(const T* canvas, const T* dout, int64_t dout_image, int64_t images, T* sums) const {
    const int64_t segments = plan_.segments.size(), row = taps() * kernels_.lanes;
    for (int64_t i = 0; i < images; ++i, canvas += plan_.canvas.size(), dout += dout_image) {
      for (int64_t o = 0; o < outputs(); o += kernels_.grad_channels) {
        const int64_t channels = std::min<int64_t>(kernels_.grad_channels, outputs() - o);
        for (int64_t t = 0; t < taps(); t += kernels_.grad_taps) {
          const int64_t count = std::min<int64_t>(kernels_.grad_taps, taps() - t);
          kernels_.grad[channels][count]({canvas, plan_.deep.data() + t, plan_.segments.data(),
                                          segments, dout + o * plan_.spots, plan_.spots,
                                          sums + o * row + t * kernels_.lanes, row});
        }
      }
    }
  }

  const ConvKernels<T>& kernels_ = conv_kernels<T>();
  ConvPlan plan_;
  ConvShape shape_;
  bool by_rows_;
};

// dout *= act'(out), and with a bias its gradient.
template <typename T>
void undo_all(const ConvBackward<T>& p, int64_t k) {
  const int64_t outputs = p.shape.outputs, spots = p.shape.window.spots();
  if (p.act == Act::none && !p.dbias) return;
  std::vector<double> sums(outputs);
  for (int64_t b = 0; b < p.shape.batch; ++b) {
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t plane = (b * outputs + o) * spots;
      sums[o] += undo_act(p.dout.row(k) + plane, p.out.row(k) + plane, spots, p.act);
    }
  }
  if (!p.dbias) return;
  const T alpha = p.alpha[k], beta = p.beta[k];
  for (int64_t o = 0; o < outputs; ++o) {
    const T gradient = alpha * static_cast<T>(sums[o]);
    p.dbias.row(k)[o] = beta == 0 ? gradient : beta * p.base_bias.row(k)[o] + gradient;
  }
}

template <typename T>
void data_gradient(const ConvBackward<T>& p, const ConvProduct<T>& product, int64_t k) {
  const ConvShape& s = p.shape;
  const int64_t spots = s.window.spots(), images = product.plan().images;
  const int64_t in_image = s.inputs * s.window.pixels(), out_image = s.outputs * spots;
  Workspace<T> workspace(Workspace<T>::rounded(product.canvas_elements()) +
                         Workspace<T>::rounded(product.weight_elements()) +
                         product.result_elements());
  T* weight = workspace.take(product.weight_elements());
  Easel<T> easel(product.plan(), s.groups, workspace);
  T* results = workspace.take(product.result_elements());
  for (int64_t g = 0; g < s.groups; ++g) {
    const int64_t first = g * s.group_outputs();
    product.pack(p.weight.row(k) + first * s.depth(), s.group_outputs(), weight);
    for (int64_t b = 0; b < s.batch; b += images) {
      const int64_t count = std::min(images, s.batch - b);
      const T* dout = p.dout.row(k) + b * out_image + first * spots;
      T* dx = p.dx.row(k) + b * in_image + g * s.group_inputs() * s.window.pixels();
      product.run(easel.show(dout, out_image, count), weight, count, results, dx, in_image);
    }
  }
}

template <typename T>
void write_gradient(const ConvBackward<T>& p, const WeightGradient<T>& gradient, const T* sums,
                    int64_t first, int64_t k) {
  const int64_t taps = gradient.taps();
  const T alpha = p.alpha[k], beta = p.beta[k];
  for (int64_t o = 0; o < gradient.outputs(); ++o) {
    T* to = p.dweight.row(k) + (first + o) * taps;
    const T* base = beta == 0 ? nullptr : p.base_weight.row(k) + (first + o) * taps;
    for (int64_t t = 0; t < taps; ++t) {
      const T scaled = alpha * gradient.value(sums, o, t);
      to[t] = base == nullptr ? scaled : beta * base[t] + scaled;
    }
  }
}

template <typename T>
void weight_gradient(const ConvBackward<T>& p, const WeightGradient<T>& gradient, int64_t k) {
  const ConvShape& s = p.shape;
  const int64_t spots = s.window.spots(), images = gradient.plan().images;
  const int64_t in_image = s.inputs * s.window.pixels(), out_image = s.outputs * spots;
  Workspace<T> workspace(Workspace<T>::rounded(gradient.sums()) +
                         Workspace<T>::rounded(gradient.turned()) + gradient.canvases());
  T* sums = workspace.take(gradient.sums());
  T* turned = workspace.zeros(gradient.turned());
  Easel<T> easel(gradient.plan(), s.groups, workspace);
  for (int64_t g = 0; g < s.groups; ++g) {
    const int64_t first = g * s.group_outputs();
    std::fill_n(sums, gradient.sums(), T{0});
    for (int64_t b = 0; b < s.batch; b += images) {
      const int64_t count = std::min(images, s.batch - b);
      const T* x = p.x.row(k) + b * in_image + g * s.group_inputs() * s.window.pixels();
      const T* dout = p.dout.row(k) + b * out_image + first * spots;
      gradient.add(easel.show(x, in_image, count), dout, out_image, count, turned, sums);
    }
    write_gradient(p, gradient, sums, first, k);
  }
}

}  // namespace

template <typename T>
void conv_backward(int64_t clients, int threads, const ConvBackward<T>& p) {
  const ConvProduct<T> data(plan_data_gradient(p.shape, conv_kernels<T>().lanes),
                            p.shape.group_inputs());
  const WeightGradient<T> gradient(p.shape);
  const int64_t work = clients * p.shape.batch * p.shape.outputs * p.shape.window.spots();
  parallel(worth(threads, clients, work * p.shape.depth()), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      undo_all(p, k);
      if (p.dx) data_gradient(p, data, k);
      weight_gradient(p, gradient, k);
    }
  });
}

template void conv_backward(int64_t, int, const ConvBackward<float>&);
template void conv_backward(int64_t, int, const ConvBackward<double>&);

}  // namespace fedfast
