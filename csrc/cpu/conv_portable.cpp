// 16-byte vectors, written so that any compiler turns each operation into one instruction.
#include "cpu/isa.h"

#define FEDFAST_TARGET
#include "cpu/conv_tile.h"

namespace fedfast {
namespace {

template <typename Element>
struct Small {
  using T = Element;
  static constexpr int lanes = 16 / sizeof(T);
  static constexpr int spots(int vectors) { return vectors <= 2 ? 4 : 0; }
  static constexpr int row_channels = 4, grad_channels = 3, grad_taps = 3, spectra = 0;
  struct Reg {
    T x[lanes];
  };
  using Mask = int64_t;  // how many lanes are in

  static Mask mask(int64_t n) { return n; }
  static FEDFAST_INLINE Reg zero() { return Reg{}; }
  static FEDFAST_INLINE Reg broadcast(T value) {
    return each([&](int) { return value; });
  }
  static FEDFAST_INLINE Reg load(const T* p) {
    return each([&](int i) { return p[i]; });
  }
  static FEDFAST_INLINE Reg load(const T* p, Mask m) {
    return each([&](int i) { return i < m ? p[i] : T{0}; });
  }
  static FEDFAST_INLINE void store(T* p, const Reg& r) {
    for (int i = 0; i < lanes; ++i) p[i] = r.x[i];
  }
  static FEDFAST_INLINE void store(T* p, const Reg& r, Mask m) {
    for (int i = 0; i < lanes && i < m; ++i) p[i] = r.x[i];
  }
  static FEDFAST_INLINE Reg add(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.x[i] + b.x[i]; });
  }
  static FEDFAST_INLINE Reg sub(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.x[i] - b.x[i]; });
  }
  static FEDFAST_INLINE Reg mul(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.x[i] * b.x[i]; });
  }
  static FEDFAST_INLINE Reg fma(const Reg& a, const Reg& b, const Reg& c) {
    return each([&](int i) { return a.x[i] * b.x[i] + c.x[i]; });
  }
  static FEDFAST_INLINE Reg relu(const Reg& a) {
    return each([&](int i) { return a.x[i] < 0 ? T{0} : a.x[i]; });
  }
  static FEDFAST_INLINE void transpose(const T* from, int64_t from_row, T* to, int64_t to_row) {
    for (int i = 0; i < lanes; ++i) {
      for (int j = 0; j < lanes; ++j) to[j * to_row + i] = from[i * from_row + j];
    }
  }

 private:
  template <typename Value>
  static FEDFAST_INLINE Reg each(const Value& value) {
    Reg r;
    for (int i = 0; i < lanes; ++i) r.x[i] = value(i);
    return r;
  }
};

}  // namespace

void portable_kernels(ConvKernels<float>& kernels) { fill<Small<float>>(kernels); }
void portable_kernels(ConvKernels<double>& kernels) { fill<Small<double>>(kernels); }

}  // namespace fedfast
