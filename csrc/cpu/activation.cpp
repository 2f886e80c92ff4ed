#include "cpu/activation.h"

#include "cpu/functions.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

// Each kind: out of x, and the derivative where x went in and y came out. NaN stays NaN.
template <typename T>
struct Relu {
  FEDFAST_INLINE T out(T x) const { return x < 0 ? T{0} : x; }
  FEDFAST_INLINE T slope(T, T y) const { return y > 0 ? T{1} : T{0}; }
};

template <typename T>
struct Tanh {
  FEDFAST_INLINE T out(T x) const { return tanh_of(x); }
  FEDFAST_INLINE T slope(T, T y) const { return 1 - y * y; }
};

template <typename T>
struct Gelu {
  FEDFAST_INLINE T out(T x) const { return x * phi_of(x); }
  FEDFAST_INLINE T slope(T x, T) const { return phi_of(x) + x * density_of(x); }
};

template <typename T>
struct Silu {
  FEDFAST_INLINE T out(T x) const { return x * sigmoid_of(x); }
  FEDFAST_INLINE T slope(T x, T) const {
    const T s = sigmoid_of(x);
    return s * (1 + x * (1 - s));
  }
};

template <typename T>
struct LeakyRelu {
  T below;
  FEDFAST_INLINE T out(T x) const { return x > 0 ? x : below * x; }
  FEDFAST_INLINE T slope(T x, T) const { return x > 0 ? T{1} : below; }
};

template <typename T>
struct Sigmoid {
  FEDFAST_INLINE T out(T x) const { return sigmoid_of(x); }
  FEDFAST_INLINE T slope(T, T y) const { return y * (1 - y); }
};

template <typename T>
struct Relu6 {
  FEDFAST_INLINE T out(T x) const { return x < 0 ? T{0} : x > 6 ? T{6} : x; }
  FEDFAST_INLINE T slope(T, T y) const { return y > 0 && y < 6 ? T{1} : T{0}; }
};

// Calls run with the kind's function; a loop per kind becomes vector code of its own.
template <typename T, typename Run>
void with(Act act, T slope, const Run& run) {
  switch (act) {
    case Act::none:
      return;
    case Act::relu:
      return run(Relu<T>{});
    case Act::tanh:
      return run(Tanh<T>{});
    case Act::gelu:
      return run(Gelu<T>{});
    case Act::silu:
      return run(Silu<T>{});
    case Act::leaky_relu:
      return run(LeakyRelu<T>{slope});
    case Act::sigmoid:
      return run(Sigmoid<T>{});
    case Act::relu6:
      return run(Relu6<T>{});
  }
}

template <typename T, typename F>
FEDFAST_CLONES void forward(F f, const T* x, int64_t n, T* out) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) out[i] = f.out(x[i]);
}

template <typename T, typename F>
FEDFAST_CLONES void backward(F f, const T* x, const T* out, const T* dout, int64_t n, T* dx) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) dx[i] = dout[i] * f.slope(x[i], out[i]);
}

}  // namespace

template <typename T>
void activate(Act act, T slope, const T* x, int64_t n, T* out) {
  with<T>(act, slope, [&](auto f) { forward(f, x, n, out); });
}

template <typename T>
void differentiate(Act act, T slope, const T* x, const T* out, const T* dout, int64_t n, T* dx) {
  with<T>(act, slope, [&](auto f) { backward(f, x, out, dout, n, dx); });
}

template <typename T>
void activation(int64_t clients, int threads, const ActivationForward<T>& p) {
  parallel(worth(threads, clients, clients * p.size), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) activate(p.act, p.slope, p.x.row(k), p.size, p.out.row(k));
  });
}

template <typename T>
void activation_backward(int64_t clients, int threads, const ActivationBackward<T>& p) {
  parallel(worth(threads, clients, clients * p.size), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      differentiate(p.act, p.slope, p.x.row(k), p.out.row(k), p.dout.row(k), p.size, p.dx.row(k));
    }
  });
}

template void activate(Act, float, const float*, int64_t, float*);
template void activate(Act, double, const double*, int64_t, double*);
template void differentiate(Act, float, const float*, const float*, const float*, int64_t, float*);
template void differentiate(Act, double, const double*, const double*, const double*, int64_t,
                            double*);
template void activation(int64_t, int, const ActivationForward<float>&);
template void activation(int64_t, int, const ActivationForward<double>&);
template void activation_backward(int64_t, int, const ActivationBackward<float>&);
template void activation_backward(int64_t, int, const ActivationBackward<double>&);

}  // namespace fedfast
