// Image after image: through the activation, then both gradients, while dout is still in a cache.
// The weights are packed before and written after, so dweight may be weight.
#include <algorithm>
#include <optional>
#include <vector>

#include "cpu/conv_data_gradient.h"
#include "cpu/conv_weight_gradient.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// dout *= act'(out) in a group's planes of some images; adds their sums by channel.
template <typename T>
void undo(const ConvBackward<T>& p, T* dout, const T* out, int64_t images, double* sums) {
  if (p.act == Act::none && !p.dbias) return;
  const int64_t spots = p.shape.window.spots(), image = p.shape.outputs * spots;
  for (int64_t i = 0; i < images; ++i) {
    for (int64_t o = 0; o < p.shape.group_outputs(); ++o) {
      const int64_t plane = i * image + o * spots;
      sums[o] += undo_act(dout + plane, out + plane, spots, p.act);
    }
  }
}

template <typename T>
void write_bias(const ConvBackward<T>& p, const std::vector<double>& sums, int64_t first,
                int64_t k) {
  if (!p.dbias) return;
  const T alpha = p.alpha[k], beta = p.beta[k];
  for (size_t o = 0; o < sums.size(); ++o) {
    const T gradient = alpha * static_cast<T>(sums[o]);
    p.dbias.row(k)[first + o] =
        beta == 0 ? gradient : beta * p.base_bias.row(k)[first + o] + gradient;
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

// One client's scratch and passes.
template <typename T>
class Client {
 public:
  Client(const ConvBackward<T>& p, const DataGradient<T>* data, const WeightGradient<T>& weights,
         int64_t k)
      : p_(p), data_(data), weights_(weights), k_(k), workspace_(elements()) {
    if (data_) pass_.emplace(*data_, workspace_);
    sums_ = workspace_.take(weights_.sums());
    turned_ = workspace_.zeros(weights_.turned());
    easel_.emplace(weights_.plan(), p_.shape.groups, &workspace_);
  }

  void group(int64_t g) {
    const ConvShape& s = p_.shape;
    const int64_t first = g * s.group_outputs(), spots = s.window.spots();
    std::vector<double> bias(s.group_outputs());
    std::fill_n(sums_, weights_.sums(), T{0});
    if (pass_) pass_->pack(p_.weight.row(k_) + first * s.depth());
    const int64_t together = std::max(weights_.plan().images, data_ ? data_->images() : 1);
    for (int64_t b = 0; b < s.batch; b += together) {
      const int64_t count = std::min(together, s.batch - b);
      const int64_t at = (b * s.outputs + first) * spots;
      undo(p_, p_.dout.row(k_) + at, p_.out.row(k_) + at, count, bias.data());
      if (pass_) data(g, b, count);
      weight(g, b, count);
    }
    write_gradient(p_, weights_, sums_, first, k_);
    write_bias(p_, bias, first, k_);
  }

 private:
  int64_t elements() const {
    const auto rounded = Workspace<T>::rounded;
    return (data_ ? data_->elements() : 0) + rounded(weights_.sums()) + rounded(weights_.turned()) +
           rounded(weights_.canvases());
  }

  // dout and x of a group from image b on.
  const T* dout(int64_t g, int64_t b) const {
    const ConvShape& s = p_.shape;
    return p_.dout.row(k_) + (b * s.outputs + g * s.group_outputs()) * s.window.spots();
  }
  int64_t in_x(int64_t g, int64_t b) const {
    const ConvShape& s = p_.shape;
    return (b * s.inputs + g * s.group_inputs()) * s.window.pixels();
  }

  void data(int64_t g, int64_t start, int64_t images) {
    for (int64_t i = 0; i < images; i += data_->images()) {
      const int64_t count = std::min(data_->images(), images - i);
      pass_->run(dout(g, start + i), count, p_.dx.row(k_) + in_x(g, start + i));
    }
  }

  void weight(int64_t g, int64_t start, int64_t images) {
    const ConvShape& s = p_.shape;
    const int64_t together = weights_.plan().images;
    for (int64_t i = 0; i < images; i += together) {
      const int64_t count = std::min(together, images - i);
      const T* x = p_.x.row(k_) + in_x(g, start + i);
      const T* canvas = easel_->show(x, s.inputs * s.window.pixels(), count);
      const T* d = dout(g, start + i);
      const int64_t image = s.outputs * s.window.spots();
      const bool more = start + i + count < s.batch;
      const Ahead next =
          more ? Ahead(d + count * image, s.group_outputs() * s.window.spots()) : Ahead();
      weights_.add(canvas, d, image, count, turned_, sums_, next);
    }
  }

  const ConvBackward<T>& p_;
  const DataGradient<T>* data_;
  const WeightGradient<T>& weights_;
  int64_t k_;
  Workspace<T> workspace_;
  std::optional<DataPass<T>> pass_;
  T *sums_, *turned_;
  std::optional<Easel<T>> easel_;
};

}  // namespace

template <typename T>
void conv_backward(int64_t clients, int threads, const ConvBackward<T>& p) {
  std::optional<DataGradient<T>> data;
  if (p.dx) data.emplace(p.shape);
  const WeightGradient<T> weights(p.shape);
  const int64_t work = clients * p.shape.batch * p.shape.outputs * p.shape.window.spots();
  parallel(worth(threads, clients, work * p.shape.depth() / kPerElement), clients,
           [&](int64_t k, int64_t last) {
             for (; k < last; ++k) {
               Client<T> client(p, data ? &*data : nullptr, weights, k);
               for (int64_t g = 0; g < p.shape.groups; ++g) client.group(g);
             }
           });
}

template void conv_backward(int64_t, int, const ConvBackward<float>&);
template void conv_backward(int64_t, int, const ConvBackward<double>&);

}  // namespace fedfast
