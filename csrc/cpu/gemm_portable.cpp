// 16-byte vectors, written so that any compiler turns each operation into one instruction; 4 x 8
// floats or 4 x 4 doubles a tile.
#define FEDFAST_TARGET
#include "cpu/gemm_tile.h"
#include "cpu/stream.h"

namespace fedfast {
namespace {

template <typename Element>
struct Small {
  using T = Element;
  static constexpr int lanes = 16 / sizeof(T), rows = 4, group = lanes, dot_rows = 2;
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
  static FEDFAST_INLINE void stream(T* p, const Reg& r) { fedfast::stream(r.x, lanes, p); }
  static FEDFAST_INLINE Reg mul(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.x[i] * b.x[i]; });
  }
  static FEDFAST_INLINE Reg add(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.x[i] + b.x[i]; });
  }
  static FEDFAST_INLINE Reg fma(const Reg& a, const Reg& b, const Reg& c) {
    return each([&](int i) { return a.x[i] * b.x[i] + c.x[i]; });
  }
  static FEDFAST_INLINE Reg join(const T* p, int64_t) { return load(p); }
  static void in_group(Reg (&t)[group]) {
    for (int i = 0; i < group; ++i) {
      for (int j = 0; j < i; ++j) std::swap(t[i].x[j], t[j].x[i]);
    }
  }
  static FEDFAST_INLINE void add_lanes(const Reg (&x)[group], T* to) {
    for (int g = 0; g < group; ++g) {
      to[g] = 0;
      for (int i = 0; i < lanes; ++i) to[g] += x[g].x[i];
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

void portable_kernels(Kernels<float>& kernels) { fill<Small<float>>(kernels); }
void portable_kernels(Kernels<double>& kernels) { fill<Small<double>>(kernels); }

}  // namespace fedfast
