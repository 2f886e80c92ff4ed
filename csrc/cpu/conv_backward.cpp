// First the data gradient, image after image, then the weight gradient, which is also cut by
// outputs where there are too few clients for the threads. Neither cut changes the order of a sum.
// Weights are read in the first part and written in the second, so dweight may be weight.
#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "cpu/conv_data_gradient.h"
#include "cpu/conv_pool.h"
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

constexpr int64_t kTogetherBytes = 1 << 20;  // half of a second-level cache
// Frames read their spectra from further off anyway, until those of both passes are too many.
constexpr int64_t kFramesTogetherBytes = 14 << 20;

// What all tasks of a call share.
template <typename T>
class Backward {
 public:
  explicit Backward(const ConvBackward<T>& p) : p_(p), weights_(p.shape) {
    if (p.dx) data_.emplace(p.shape);
    together_ = p.dx && p.dweight && p.tap ? std::lcm(data_->images(), weights_.images()) : 0;
    const bool frames = together_ > 0 && data_->by_frames() && weights_.by_frames();
    const int64_t most = frames ? kFramesTogetherBytes : kTogetherBytes;
    if (together_elements() * static_cast<int64_t>(sizeof(T)) > most) together_ = 0;
  }

  // Whether both gradients of a client that is one thread's work take turns, so that what was
  // pooled is put back once.
  bool together() const { return together_ > 0; }

  // dx, dweight and dbias of client k: the sums of `data` and `weight`.
  void both(int64_t k) const {
    const ConvShape& s = p_.shape;
    Workspace<T> workspace(together_elements());
    DataPass<T> data(*data_, workspace);
    WeightPass<T> weight(weights_, s.group_outputs(), workspace);
    T* rows = workspace.take(kPieceTaps * s.group_outputs());
    T* planes = workspace.take(plane_elements(together_));
    for (int64_t g = 0; g < s.groups; ++g) {
      const Range own{g * s.group_outputs(), (g + 1) * s.group_outputs()};
      std::vector<double> bias(p_.dbias ? own.size() : 0);
      data.pack(p_.weight.row(k) + own.start * s.depth());
      weight.start();
      Range{0, s.batch}.each(together_, [&](int64_t b, int64_t images) {
        const T* dz = slopes(k, b, images, own, planes);
        Range{0, images}.each(data_->images(), [&](int64_t i, int64_t count) {
          data.run(dz + i * plane_elements(1), count, p_.dx.row(k) + in_x(g, b + i));
        });
        Range{0, images}.each(weights_.images(), [&](int64_t i, int64_t count) {
          sum_bias(dz + i * plane_elements(1), count, bias);
          weight.add(p_.x.row(k) + in_x(g, b + i), dz + i * plane_elements(1), count, Ahead());
        });
      });
      write(k, own.start, weight, rows);
      write_bias(k, own.start, bias);
    }
  }

  // dx of some images of client k.
  void data(int64_t k, const Range& images) const {
    const ConvShape& s = p_.shape;
    const int64_t pooled = plane_elements(data_->images());
    Workspace<T> workspace(Workspace<T>::rounded(data_->elements()) + pooled);
    DataPass<T> pass(*data_, workspace);
    T* planes = workspace.take(pooled);
    for (int64_t g = 0; g < s.groups; ++g) {
      const int64_t first = g * s.group_outputs();
      pass.pack(p_.weight.row(k) + first * s.depth());
      images.each(data_->images(), [&](int64_t b, int64_t count) {
        const T* dz = slopes(k, b, count, {first, first + s.group_outputs()}, planes);
        pass.run(dz, count, p_.dx.row(k) + in_x(g, b));
      });
    }
  }

  // dweight and dbias of client k for some outputs of each group, each if wanted.
  void weight(int64_t k, const Range& outputs) const {
    const ConvShape& s = p_.shape;
    if (outputs.size() == 0) return;
    const auto rounded = Workspace<T>::rounded;
    const int64_t turned = kPieceTaps * outputs.size();
    const int64_t pooled = plane_elements(weights_.images());
    Workspace<T> workspace(rounded(weights_.elements(outputs.size())) + rounded(turned) + pooled);
    WeightPass<T> pass(weights_, outputs.size(), workspace);
    T* rows = workspace.take(turned);
    T* planes = workspace.take(pooled);
    for (int64_t g = 0; g < s.groups; ++g) {
      const int64_t first = g * s.group_outputs();
      const Range own{first + outputs.start, first + outputs.stop};
      std::vector<double> bias(p_.dbias ? own.size() : 0);
      sum(k, g, own, pass, bias, planes);
      if (p_.dweight) write(k, own.start, pass, rows);
      write_bias(k, own.start, bias);
    }
  }

 private:
  T* dout(int64_t k, int64_t b, int64_t output) const {
    const int64_t spots = p_.tap ? p_.pool.spots() : p_.shape.window.spots();
    return p_.dout.row(k) + (b * p_.shape.outputs + output) * spots;
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

  int64_t together_elements() const {
    if (!p_.dx) return 0;
    const auto rounded = Workspace<T>::rounded;
    const int64_t outputs = p_.shape.group_outputs();
    return rounded(data_->elements()) + rounded(weights_.elements(outputs)) +
           rounded(kPieceTaps * outputs) + plane_elements(together_);
  }

  // Elements of the planes of some images where dout is pooled, else 0.
  int64_t plane_elements(int64_t images) const {
    return p_.tap ? images * p_.shape.outputs * p_.shape.window.spots() : 0;
  }

  // dz of images b on, some outputs of each: dout itself, changed in place by the first to ask, or
  // planes made of what was pooled. Images lie all outputs apart.
  const T* slopes(int64_t k, int64_t b, int64_t images, const Range& outputs, T* planes,
                  bool first = true) const {
    if (!p_.tap) {
      if (first) undo(k, b, images, outputs);
      return dout(k, b, outputs.start);
    }
    for (int64_t i = 0; i < images; ++i) {
      const T* d = dout(k, b + i, outputs.start);
      const int64_t at = d - p_.dout.row(k);
      put_back(p_.pool, p_.act, d, p_.out.row(k) + at, p_.tap.row(k) + at, outputs.size(),
               planes + i * plane_elements(1));
    }
    return planes;
  }

  void sum(int64_t k, int64_t g, const Range& own, WeightPass<T>& pass, std::vector<double>& bias,
           T* planes) const {
    const ConvShape& s = p_.shape;
    pass.start();
    for (int64_t b = 0; b < s.batch; b += weights_.images()) {
      const int64_t count = std::min(weights_.images(), s.batch - b), next = b + count;
      const T* dz = slopes(k, b, count, own, planes, !p_.dx);
      sum_bias(dz, count, bias);
      if (!p_.dweight) continue;
      const int64_t size = own.size() * s.window.spots();
      const bool more = next < s.batch && !p_.tap;
      const Ahead ahead = more ? Ahead(dout(k, next, own.start), size) : Ahead();
      pass.add(p_.x.row(k) + in_x(g, b), dz, count, ahead);
    }
  }

  void sum_bias(const T* dz, int64_t images, std::vector<double>& bias) const {
    const int64_t spots = p_.shape.window.spots();
    for (int64_t i = 0; i < images; ++i) {
      const T* plane = dz + i * p_.shape.outputs * spots;
      for (double& sum : bias) sum += plane_sum(plane, spots), plane += spots;
    }
  }

  void write(int64_t k, int64_t first, WeightPass<T>& pass, T* rows) const {
    const int64_t depth = p_.shape.depth();
    pass.give([&](const Place& at, const T* piece, int64_t row) {
      if (row > 0) conv_kernels<T>().transpose(piece, row, at.taps, at.outputs, rows, at.taps);
      const T* turned = row > 0 ? rows : piece;
      for (int64_t o = 0; o < at.outputs; ++o) {
        const int64_t to = (first + at.output + o) * depth + at.tap;
        const T* base = p_.beta[k] == 0 ? nullptr : p_.base_weight.row(k) + to;
        fold(turned + o * at.taps, p_.alpha[k], p_.beta[k], base, p_.dweight.row(k) + to, at.taps);
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
  int64_t together_ = 0;  // images
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
  if (backward.together() && images == 1 && vectors == 1) {
    parallel(threads, clients, [&](int64_t k, int64_t last) {
      for (; k < last; ++k) backward.both(k);
    });
    return;
  }
  if (p.dx) {
    parallel(threads, clients * images, [&](int64_t i, int64_t last) {
      for (; i < last; ++i) backward.data(i / images, part_of(s.batch, 1, i % images, images));
    });
  }
  if (!p.dweight && !p.dbias) return;
  parallel(threads, clients * vectors, [&](int64_t i, int64_t last) {
    for (; i < last; ++i)
      backward.weight(i / vectors, part_of(outputs, lanes, i % vectors, vectors));
  });
}

template void conv_backward(int64_t, int, const ConvBackward<float>&);
template void conv_backward(int64_t, int, const ConvBackward<double>&);

}  // namespace fedfast
