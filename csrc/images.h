// The native operations on images, `[K, B, C, H, W]`: what each takes. Their meaning is
// kernels/reference/images.py.
//
// A bank's stride leads from client to client; what belongs to one client is contiguous. Results
// depend neither on `threads`, nor on K, nor on alignment: a client is one thread's work, or cut
// between threads where that changes no order of additions.
#pragma once

#include <cstdint>

#include "layers.h"

namespace fedfast {

// A window that moves over an image of `height` x `width`, giving `out_height` x `out_width`.
struct Window {
  int64_t height = 0, width = 0, out_height = 0, out_width = 0;
  int64_t kh = 1, kw = 1, sh = 1, sw = 1, ph = 0, pw = 0, dh = 1, dw = 1;

  int64_t pixels() const { return height * width; }
  int64_t spots() const { return out_height * out_width; }
  int64_t taps() const { return kh * kw; }
};

struct ConvShape {
  int64_t batch = 0, inputs = 0, outputs = 0, groups = 1;  // B, C, O
  Window window;

  int64_t group_inputs() const { return inputs / groups; }
  int64_t group_outputs() const { return outputs / groups; }
  int64_t depth() const { return group_inputs() * window.taps(); }
};

// out = act(x * weight + bias), or the largest of each of its windows side by side.
template <typename T>
struct Conv {
  ConvShape shape;
  Act act = Act::none;
  Bank<const T> x;         // [K, B, C, H, W]
  Bank<const T> weight;    // [K, O, C / groups, kh, kw]
  Bank<const T> bias;      // [K, O] or none
  Bank<T> out;             // [K, B, O, OH, OW], or the windows'
  Window pool = {};        // over the planes of results, where there is a tap
  Bank<uint8_t> tap = {};  // as out: which of its window's elements is largest, row by row; or none

  int64_t spots() const { return tap ? pool.spots() : shape.window.spots(); }
};

// dout *= act'(out); dx; then dweight = beta base_weight + alpha gradient, and dbias likewise.
template <typename T>
struct ConvBackward {
  ConvShape shape;
  Act act = Act::none;
  Bank<const T> x, weight, out;
  Bank<T> dout;                               // overwritten, without tap
  Bank<T> dx;                                 // or none
  Bank<T> dweight;                            // may be weight
  Bank<T> dbias;                              // or none
  Bank<const T> base_weight, base_bias;       // read where beta is not 0
  const T *alpha = nullptr, *beta = nullptr;  // [K]
  Window pool = {};                           // as Conv has it
  Bank<const uint8_t> tap = {};               // or none
};

// out = of each window side by side over the planes the element at its tap.
template <typename T>
struct Pick {
  int64_t planes = 0;       // B C
  Window window;            // sizes only
  Bank<const T> x;          // [K, planes, H, W]
  Bank<const uint8_t> tap;  // as out
  Bank<T> out;              // [K, planes, OH, OW]
};

enum class PoolKind { avg, max };

// out = the largest element, or the mean, of each window of each plane.
template <typename T>
struct Pool {
  int64_t planes = 0;  // B C
  Window window;
  PoolKind kind = PoolKind::max;
  bool count_padding = true;  // in the mean's divisor
  Bank<const T> x;            // [K, planes, H, W]
  Bank<T> out;                // [K, planes, OH, OW]
  Bank<int32_t> argmax;       // as out: row * W + column in the plane, or none
};

// dx of the same.
template <typename T>
struct PoolBackward {
  int64_t planes = 0;
  Window window;
  PoolKind kind = PoolKind::max;
  bool count_padding = true;
  Bank<const T> dout;
  Bank<const int32_t> argmax;
  Bank<T> dx;
};

// Means over OH x OW nearly equal windows that cover the plane.
template <typename T>
struct AdaptivePool {
  int64_t planes = 0;
  Window window;  // sizes only
  Bank<const T> from;
  Bank<T> to;
};

// Of a client's [B, C, inner]: which of its numbers are normalised together.
struct NormShape {
  int64_t batch = 0, channels = 0, inner = 1;
  int64_t groups = 1;  // of channels, in group_norm
};

// Normalises by the mean and variance of each channel over the first `count` samples, or by the
// running ones.
template <typename T>
struct BatchNorm {
  NormShape shape;
  Bank<const T> x, weight, bias;      // [K, B, C, inner], [K, C] or none
  Bank<T> running_mean, running_var;  // [K, C]; none: statistics of the batch, nothing kept
  const int32_t* count = nullptr;     // [K]
  bool training = true;
  T momentum = 0, eps = 0;
  Bank<T> out, mean, rstd;  // [K, B, C, inner], [K, C]
};

// Normalises each sample's groups of channels (inner > 1 or weights per channel).
template <typename T>
struct GroupNorm {
  NormShape shape;
  Bank<const T> x, weight, bias;
  T eps = 0;
  Bank<T> out, mean, rstd;  // statistics [K, B, groups]
};

// dx, then dweight = beta base_weight + alpha gradient, and dbias likewise.
template <typename T>
struct NormBackward {
  NormShape shape;
  Bank<const T> x, weight, dout, mean, rstd;
  const int32_t* count = nullptr;  // [K], for batch_norm
  bool training = true;
  Bank<T> dx, dweight, dbias;            // each may be none
  Bank<const T> base_weight, base_bias;  // read where beta is not 0
  const T *alpha = nullptr, *beta = nullptr;
};

// Each is compiled for float and double.
template <typename T>
void conv(int64_t clients, int threads, const Conv<T>& p);
template <typename T>
void conv_backward(int64_t clients, int threads, const ConvBackward<T>& p);
template <typename T>
void pick(int64_t clients, int threads, const Pick<T>& p);

template <typename T>
void pool(int64_t clients, int threads, const Pool<T>& p);
template <typename T>
void pool_backward(int64_t clients, int threads, const PoolBackward<T>& p);
template <typename T>
void adaptive_avg(int64_t clients, int threads, const AdaptivePool<T>& p);
template <typename T>
void adaptive_avg_backward(int64_t clients, int threads, const AdaptivePool<T>& p);
template <typename T>
void batch_norm(int64_t clients, int threads, const BatchNorm<T>& p);
template <typename T>
void batch_norm_backward(int64_t clients, int threads, const NormBackward<T>& p);
template <typename T>
void group_norm(int64_t clients, int threads, const GroupNorm<T>& p);
template <typename T>
void group_norm_backward(int64_t clients, int threads, const NormBackward<T>& p);

}  // namespace fedfast
