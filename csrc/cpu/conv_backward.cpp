// First the data gradient, image after image, then the weight gradient, which is also cut by
// outputs where there are too few clients for the threads. Neither cut changes the order of a sum.
// Weights are read in the first part and written in the second, so dweight may be weight.
#include <algorithm>
#include <optional>
#include <vector>

#include "cpu/conv_data_gradient.h"
#include "cpu/conv_weight_gradient.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// to = beta * base + alpha * gradient; base is not read when beta is 0.
template <typename T>
FEDFAST_CLONES void fold(const T* gradient, T alpha, T beta, const T* base, T* to, int64_t n) {
  if (beta == 0) {
    for (int64_t i = 0; i < n; ++i) to[i] = alpha * gradient[i];
    return;
  }
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) to[i] = beta * base[i] + alpha * gradient[i];
}

// What all tasks of a call share.
template <typename T>
class Backward {
 public:
  explicit Backward(const ConvBackward<T>& p) : p_(p), weights_(p.shape) {
    if (p.dx) data_.emplace(p.shape);
  }

  // dx of some images of client k.
  void data(int64_t k, const Range& images) const {
    const ConvShape& s = p_.shape;
    Workspace<T> workspace(data_->elements());
    DataPass<T> pass(*data_, workspace);
    for (int64_t g = 0; g < s.groups; ++g) {
      const int64_t first = g * s.group_outputs();
      pass.pack(p_.weight.row(k) + first * s.depth());
      images.each(data_->images(), [&](int64_t b, int64_t count) {
        undo(k, b, count, {first, first + s.group_outputs()});
        pass.run(dout(k, b, first), count, p_.dx.row(k) + in_x(g, b));
      });
    }
  }

  // dweight and dbias of client k for some outputs of each group.
  void weight(int64_t k, const Range& outputs) const {
    const ConvShape& s = p_.shape;
    if (outputs.size() == 0) return;
    const auto rounded = Workspace<T>::rounded;
    const int64_t turned = kPieceTaps * outputs.size();
    Workspace<T> workspace(weights_.elements(outputs.size()) + rounded(turned));
    WeightPass<T> pass(weights_, outputs.size(), workspace);
    T* rows = workspace.take(turned);
    for (int64_t g = 0; g < s.groups; ++g) {
      const int64_t first = g * s.group_outputs();
      const Range own{first + outputs.start, first + outputs.stop};
      std::vector<double> bias(p_.dbias ? own.size() : 0);
      sum(k, g, own, pass, bias);
      write(k, own.start, pass, rows);
      write_bias(k, own.start, bias);
    }
  }

 private:
  T* dout(int64_t k, int64_t b, int64_t output) const {
    return p_.dout.row(k) + (b * p_.shape.outputs + output) * p_.shape.window.spots();
  }
  int64_t in_x(int64_t g, int64_t b) const {
    const ConvShape& s = p_.shape;
    return (b * s.inputs + g * s.group_inputs()) * s.window.pixels();
  }

  // dout *= act'(out) in some planes of some images.
  void undo(int64_t k, int64_t b, int64_t images, const Range& outputs) const {
    if (p_.act == Act::none) return;
    const int64_t spots = p_.shape.window.spots();
    for (int64_t i = b; i < b + images; ++i) {
      T* d = dout(k, i, outputs.start);
      undo_act(d, p_.out.row(k) + (d - p_.dout.row(k)), outputs.size() * spots, p_.act);
    }
  }

  void sum(int64_t k, int64_t g, const Range& own, WeightPass<T>& pass,
           std::vector<double>& bias) const {
    const ConvShape& s = p_.shape;
    pass.start();
    for (int64_t b = 0; b < s.batch; b += weights_.images()) {
      const int64_t count = std::min(weights_.images(), s.batch - b), next = b + count;
      if (!p_.dx) undo(k, b, count, own);
      sum_bias(k, own.start, b, count, bias);
      const int64_t planes = own.size() * s.window.spots();
      const Ahead ahead = next < s.batch ? Ahead(dout(k, next, own.start), planes) : Ahead();
      pass.add(p_.x.row(k) + in_x(g, b), dout(k, b, own.start), count, ahead);
    }
  }

  void sum_bias(int64_t k, int64_t first, int64_t b, int64_t images,
                std::vector<double>& bias) const {
    const int64_t spots = p_.shape.window.spots();
    for (int64_t i = b; i < b + images; ++i) {
      const T* plane = dout(k, i, first);
      for (double& sum : bias) sum += plane_sum(plane, spots), plane += spots;
    }
  }

  void write(int64_t k, int64_t first, WeightPass<T>& pass, T* rows) const {
    const int64_t depth = p_.shape.depth();
    pass.give([&](const Place& at, const T* piece, int64_t row) {
      conv_kernels<T>().transpose(piece, row, at.taps, at.outputs, rows, at.taps);
      for (int64_t o = 0; o < at.outputs; ++o) {
        const int64_t to = (first + at.output + o) * depth + at.tap;
        const T* base = p_.beta[k] == 0 ? nullptr : p_.base_weight.row(k) + to;
        fold(rows + o * at.taps, p_.alpha[k], p_.beta[k], base, p_.dweight.row(k) + to, at.taps);
      }
    });
  }

  void write_bias(int64_t k, int64_t first, const std::vector<double>& sums) const {
    if (!p_.dbias) return;
    const T alpha = p_.alpha[k], beta = p_.beta[k];
    for (size_t o = 0; o < sums.size(); ++o) {
      const T gradient = alpha * static_cast<T>(sums[o]);
      p_.dbias.row(k)[first + o] =
          beta == 0 ? gradient : beta * p_.base_bias.row(k)[first + o] + gradient;
    }
  }

  const ConvBackward<T>& p_;
  std::optional<DataGradient<T>> data_;
  WeightGradient<T> weights_;
};

}  // namespace

template <typename T>
void conv_backward(int64_t clients, int threads, const ConvBackward<T>& p) {
  const ConvShape& s = p.shape;
  const Backward<T> backward(p);
  const int64_t lanes = conv_kernels<T>().lanes, outputs = s.group_outputs();
  const int64_t work = clients * s.batch * s.outputs * s.window.spots() * s.depth() / kPerElement;
  threads = worth(threads, clients * threads, work);
  const int64_t images = parts_for(threads, clients, s.batch);
  const int64_t vectors = parts_for(threads, clients, (outputs + lanes - 1) / lanes);
  if (p.dx) {
    parallel(threads, clients * images, [&](int64_t i, int64_t last) {
      for (; i < last; ++i) backward.data(i / images, part_of(s.batch, 1, i % images, images));
    });
  }
  parallel(threads, clients * vectors, [&](int64_t i, int64_t last) {
    for (; i < last; ++i)
      backward.weight(i / vectors, part_of(outputs, lanes, i % vectors, vectors));
  });
}

template void conv_backward(int64_t, int, const ConvBackward<float>&);
template void conv_backward(int64_t, int, const ConvBackward<double>&);

}  // namespace fedfast
