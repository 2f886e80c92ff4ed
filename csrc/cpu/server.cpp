#include "cpu/server.h"

#include <cmath>

#include "cpu/isa.h"

namespace fedfast {
namespace {

template <typename T>
FEDFAST_CLONES void average(const Server& s, const double* mean, const ServerRows<T>& r,
                            int64_t n) {
  const double lr = s.lr;
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) r.out[i] = static_cast<T>(r.w[i] + lr * mean[i]);
}

template <typename T>
FEDFAST_CLONES void momentum(const Server& s, const double* mean, const ServerRows<T>& r,
                             int64_t n) {
  const double lr = s.lr, beta1 = s.beta1;
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const T m = static_cast<T>(beta1 * r.m[i] + mean[i]);
    r.m[i] = m;
    r.out[i] = static_cast<T>(r.w[i] + lr * m);
  }
}

template <Rule kRule>
inline double second_moment(double old, double square, double beta2) {
  if constexpr (kRule == Rule::adagrad) return old + square;
  if constexpr (kRule == Rule::adam) return beta2 * old + (1 - beta2) * square;
  const double sign = old > square ? 1.0 : old < square ? -1.0 : 0.0;
  return old - (1 - beta2) * square * sign;
}

template <Rule kRule, typename T>
FEDFAST_CLONES void adaptive(const Server& s, const double* mean, const ServerRows<T>& r,
                             int64_t n) {
  const double lr = s.lr, beta1 = s.beta1, beta2 = s.beta2, tau = s.tau;
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const T v = static_cast<T>(second_moment<kRule>(r.v[i], mean[i] * mean[i], beta2));
    const T m = static_cast<T>(beta1 * r.m[i] + (1 - beta1) * mean[i]);
    r.v[i] = v;
    r.m[i] = m;
    r.out[i] = static_cast<T>(r.w[i] + lr * m / (std::sqrt(static_cast<double>(v)) + tau));
  }
}

}  // namespace

template <typename T>
void serve(const Server& server, const double* mean, const ServerRows<T>& rows, int64_t n) {
  switch (server.rule) {
    case Rule::average:
      return average(server, mean, rows, n);
    case Rule::momentum:
      return momentum(server, mean, rows, n);
    case Rule::adam:
      return adaptive<Rule::adam>(server, mean, rows, n);
    case Rule::yogi:
      return adaptive<Rule::yogi>(server, mean, rows, n);
    case Rule::adagrad:
      return adaptive<Rule::adagrad>(server, mean, rows, n);
    case Rule::none:
      return;
  }
}

template void serve(const Server&, const double*, const ServerRows<float>&, int64_t);
template void serve(const Server&, const double*, const ServerRows<double>&, int64_t);

}  // namespace fedfast
