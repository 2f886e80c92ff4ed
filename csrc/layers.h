// The native layer operations: what each takes and in which shape. Their meaning is
// kernels/reference/layers.py.
//
// Letters: K clients, B rows of a batch, I inputs, O outputs, C classes or channels. What belongs
// to a client is contiguous; from client to client any stride, 0 where all share one. Each client
// is computed by one thread: results depend neither on `threads` nor on K.
#pragma once

#include "fedfast.h"

namespace fedfast {

enum class Act { none, relu, tanh, gelu, silu, leaky_relu, sigmoid, relu6 };

// out = act(x W^T + b).
template <typename T>
struct LinearForward {
  int64_t batch = 0, inputs = 0, outputs = 0;
  int64_t width = 0;     // B where rows behind the first `batch` are left out; 0: batch
  Bank<const T> x;       // [K, B, I]
  Bank<const T> weight;  // [K, O, I]
  Bank<const T> bias;    // [K, O] or none
  Act act = Act::none;
  Bank<T> out;  // [K, B, O]
};

// dout *= act'(out); dx = dout W; dweight = beta base + alpha dout^T x + gamma add; dbias likewise.
template <typename T>
struct LinearBackward {
  int64_t batch = 0, inputs = 0, outputs = 0;
  int64_t width = 0;          // B where rows behind the first `batch` are left out; 0: batch
  Bank<const T> x;            // [K, B, I]
  Bank<const T> weight;       // [K, O, I]
  Bank<const T> out;          // [K, B, O]
  Bank<T> dout;               // [K, B, O], overwritten where there is an activation
  Act act = Act::none;        // none, relu or tanh
  const T* alpha = nullptr;   // [K]
  const T* beta = nullptr;    // [K]; base is not read where it is 0
  Bank<const T> base_weight;  // [K, O, I]
  Bank<const T> base_bias;    // [K, O]
  Bank<T> dx;                 // [K, B, I] or none
  Bank<T> dweight;            // [K, O, I] or none; may be weight or base_weight
  Bank<T> dbias;              // [K, O] or none; may be base_bias
  const T* gamma = nullptr;   // [K]
  Bank<const T> add_weight;   // [K, O, I] or none
  Bank<const T> add_bias;     // [K, O] or none
};

// gram = x x^T + ones; squares = sum gram o (d d^T) = |d^T x|^2 + ones |sum_B d|^2.
template <typename T>
struct Ghost {
  int64_t batch = 0, inputs = 0, outputs = 0;
  Bank<const T> x, d;  // [K, B, I], [K, B, O]
  T ones = 0;
  Bank<T> gram;          // [K, B, B]
  Bank<double> squares;  // [K]
};

// Of each client `count` numbers, `step` apart.
struct Slots {
  Bank<const double> rows;
  int64_t count = 0, step = 1;

  double sum(int64_t k) const {
    double total = 0;
    for (int64_t i = 0; i < count; ++i) total += rows.row(k)[i * step];
    return total;
  }
};

// squares = |d^T x + add_weight|^2 + ones |sum_B d + add_bias|^2 where sqrt(known[1] +
// (sqrt(known[0])
// + sqrt(added))^2) is not at most the limit, else 0; of known and added the sums of their numbers.
template <typename T>
struct Joined {
  int64_t batch = 0, inputs = 0, outputs = 0;
  Bank<const T> x, d;  // [K, B, I], [K, B, O]
  T ones = 0;
  Bank<const T> add_weight, add_bias;  // [K, O, I], [K, O] or none
  Slots known[2], added[2];            // the second may be empty
  double limit = 0;
  Bank<double> squares;  // [K]
};

// out = act(base + scale (x u^T + ones) v).
template <typename T>
struct LowRank {
  int64_t batch = 0, inputs = 0, outputs = 0;
  Bank<const T> x, u, v;  // [K, B, I] twice, [K, B, O]
  Bank<const T> gram;     // [K, B, B]: x u^T + ones if it is known, else none
  T ones = 0;
  const T* scale = nullptr;  // [K]
  Bank<const T> base;        // [K, B, O]; may be out
  Act act = Act::none;
  Bank<T> out;  // [K, B, O]
};

// out = min(rho / (sqrt(the sum of a client's squares) + eps), most).
template <typename T>
struct Reach {
  Slots squares[2];  // the second may be empty
  double rho = 0, eps = 0, most = 0;
  const double* radii = nullptr;  // [K] in the place of rho, or none
  T* out = nullptr;               // [K]
};

// [n, K]: clients' numbers side by side, `step` from one row to the next.
template <typename T>
struct Columns {
  T* data = nullptr;
  int64_t step = 0;
};

// out[l, k] = rho[k, l] c / (c norm + eps); norm of a client's squares, c = min(limit / (norm +
// 1e-6), 1), or 1 where the limit is infinite.
template <typename T>
struct LayerReach {
  int64_t layers = 0;
  Bank<const T> rho;  // [K, L]
  Slots squares[2];   // the second may be empty
  double eps = 0, limit = 0;
  Columns<T> out;  // [L, K]
};

// out = act(x), element by element.
template <typename T>
struct ActivationForward {
  int64_t size = 0;  // elements of a client
  Bank<const T> x;
  Act act = Act::relu;
  T slope = 0;
  Bank<T> out;  // may be x
};

// dx = dout act'(x).
template <typename T>
struct ActivationBackward {
  int64_t size = 0;
  Bank<const T> x, out, dout;
  Act act = Act::relu;
  T slope = 0;
  Bank<T> dx;  // may be dout
};

// Mean cross-entropy over each client's first `count` rows; its gradient there, zeros beyond.
template <typename T>
struct CrossEntropy {
  int64_t batch = 0, classes = 0;
  Bank<const T> logits;            // [K, B, C]
  Bank<const int64_t> targets;     // [K, B]
  const int32_t* count = nullptr;  // [K]
  T* losses = nullptr;             // [K]
  Bank<T> dlogits;                 // [K, B, C]; may be logits
};

// out = (softmax(scale logits) - softmax(scale before)) scale / count, 0 beyond the count.
template <typename T>
struct KlGradient {
  int64_t batch = 0, classes = 0;
  Bank<const T> logits, before;    // [K, B, C]
  const int32_t* count = nullptr;  // [K]
  T scale = 1;                     // 1 / temperature
  Bank<T> out;                     // [K, B, C]; may be logits
};

// h = (mu, x), sigma = softplus(x - alpha): z = mu + sigma noise, `samples` rows of each input.
template <typename T>
struct SampleGaussian {
  int64_t batch = 0, size = 0, samples = 0;  // B, D, L
  Bank<const T> h;                           // [K, B, 2 D]
  Bank<const T> noise;                       // [K, B L, D]
  Bank<const int64_t> targets;               // [K, B]
  const int32_t* count = nullptr;            // [K]
  T alpha = 0;
  Bank<T> z;             // [K, B L, D], 0 beyond the count
  Bank<int64_t> labels;  // [K, B L]
  Bank<int32_t> counts;  // [K]
};

// dh of dz and of beta mean KL(N(mean_y, spread_y^2) || N(mu, sigma^2)), which joins losses.
template <typename T>
struct SampleGaussianBackward {
  int64_t batch = 0, size = 0, samples = 0, classes = 0;
  Bank<const T> h;                 // [K, B, 2 D]
  Bank<const T> noise, dz;         // [K, B L, D]
  Bank<const int64_t> targets;     // [K, B]
  const int32_t* count = nullptr;  // [K]
  Bank<const T> mean, spread;      // [K, C, D]
  T alpha = 0, beta = 0;
  Bank<T> losses;  // [K]
  Bank<T> dh;      // [K, B, 2 D], 0 beyond the count
};

// precision += last / sigma^2, pull += last mu / sigma^2, each input to the row of its class.
template <typename T>
struct SumGaussians {
  int64_t batch = 0, size = 0, classes = 0;
  Bank<const T> h;                 // [K, B, 2 D]
  Bank<const int64_t> targets;     // [K, B]
  const int32_t* count = nullptr;  // [K]
  const T* last = nullptr;         // [K]
  T alpha = 0;
  Bank<T> precision, pull;  // [K, C, D]
};

// out[k, b] = bank[rows[k, b]].
struct Gather {
  int64_t samples = 0, batch = 0;               // n, B
  int64_t channels = 1, height = 1, width = 0;  // of a sample
  Bank<const int64_t> rows;                     // [K, B]
  int64_t size() const { return channels * height * width; }
};

// How images of bytes are seen: scale v + shift, moved by an offset and then mirrored.
template <typename T>
struct Look {
  const T* scale = nullptr;         // [C]
  const T* shift = nullptr;         // [C]
  const T* margin = nullptr;        // [C] outside of the image
  const int32_t* offset = nullptr;  // [K, B, 2] (y, x), or null
  const uint8_t* flip = nullptr;    // [K, B], null with offset
};

template <typename T>
void linear(int64_t clients, int threads, const LinearForward<T>& p);
template <typename T>
void linear_backward(int64_t clients, int threads, const LinearBackward<T>& p);
template <typename T>
void ghost(int64_t clients, int threads, const Ghost<T>& p);
template <typename T>
void joined(int64_t clients, int threads, const Joined<T>& p);
template <typename T>
void lowrank(int64_t clients, int threads, const LowRank<T>& p);
template <typename T>
void reach(int64_t clients, const Reach<T>& p);
template <typename T>
void layer_reach(int64_t clients, const LayerReach<T>& p);
template <typename T>
void activation(int64_t clients, int threads, const ActivationForward<T>& p);
template <typename T>
void activation_backward(int64_t clients, int threads, const ActivationBackward<T>& p);

// Whether every target and count was in range; a client with one that is not is left unwritten.
template <typename T>
bool cross_entropy(int64_t clients, int threads, const CrossEntropy<T>& p);

// Whether every count was in range; a client whose one is not is left unwritten.
template <typename T>
bool kl_gradient(int64_t clients, int threads, const KlGradient<T>& p);

// Whether every count and target was in range; a client whose ones are not is left unwritten.
template <typename T>
bool sample_gaussian(int64_t clients, int threads, const SampleGaussian<T>& p);
template <typename T>
bool sample_gaussian_backward(int64_t clients, int threads, const SampleGaussianBackward<T>& p);
template <typename T>
bool sum_gaussians(int64_t clients, int threads, const SumGaussians<T>& p);

// Whether every row was in range; samples with one that is not are left unwritten.
bool gather_bytes(int64_t clients, int threads, const Gather& p, const char* bank,
                  int64_t element_bytes, Bank<char> out);
template <typename T>
bool gather_images(int64_t clients, int threads, const Gather& p, const Look<T>& look,
                   const uint8_t* bank, Bank<T> out);

}  // namespace fedfast
