// A factor for each tensor of each client: its radius over the norm of the whole gradient.
#include <cmath>

#include "layers.h"

namespace fedfast {
namespace {

constexpr double kClipEps = 1e-6;  // of torch's clip_grad_norm_

double over_norm(double norm, double eps, double limit) {
  if (std::isinf(limit)) return 1 / (norm + eps);
  const double left = limit * (1 / (norm + kClipEps));
  const double clip = left > 1 ? 1 : left;  // a norm that is no number stays one
  return clip / (norm * clip + eps);
}

}  // namespace

template <typename T>
void layer_reach(int64_t clients, const LayerReach<T>& p) {
  for (int64_t k = 0; k < clients; ++k) {
    double squares = 0;
    for (const Slots& slots : p.squares) squares += slots.sum(k);
    const double scale = over_norm(std::sqrt(squares), p.eps, p.limit);
    for (int64_t l = 0; l < p.layers; ++l) {
      p.out.data[l * p.out.step + k] = static_cast<T>(p.rho.row(k)[l] * scale);
    }
  }
}

template void layer_reach(int64_t, const LayerReach<float>&);
template void layer_reach(int64_t, const LayerReach<double>&);

}  // namespace fedfast
