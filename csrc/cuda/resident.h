// The resident MLP: all local steps of a client in one launch, its weights in shared memory.
//
// A cluster of thread blocks trains a client. Block c holds hidden units [c U, c U + U): their rows
// of W1, their biases, their columns of the next layer. What it means, step by step, in the order
// of its sums: docs/gpu.md.
#pragma once
#include <cstdint>

namespace fedfast::cuda {

constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;
constexpr int kSharedBytes = 232448;  // that a block of compute capability 9.0 and 10.0 may have
constexpr int kMostBlocks = 16;       // of a cluster; beyond 8 the device may refuse

// x [B, D] -> h = relu(x W1^T + b1) [B, H], perhaps h = relu(h Wm^T + bm) [B, M], -> h W2^T + b2
// [B, C].
struct Model {
  int inputs, hidden, middle, classes, width;  // D, H, M or 0, C, B
  bool norms;                                  // whether gradients are measured: SAM, clip
  bool momentum;                               // whether each weight has a velocity

  int top() const { return middle ? middle : hidden; }
};

// A weight [rows, columns] and its bias; see `Shared`.
struct Tensors {
  int w, b;
};

// A hidden layer's [B, U]: before and after relu, gradient at z.
struct Values {
  int z, h, d, stride;
};

// Where the parts of a block's shared memory begin, in floats; each at a multiple of four.
struct Shared {
  int stride1, logit_stride;  // of rows over inputs, over classes
  int middle_stride;          // of rows over all units of the second hidden layer
  Values low, top;            // of the first hidden layer and of the last, perhaps the same
  Tensors w1, wm, w2;         // [U, D], [M, U], [C, units of the last hidden layer]
  Tensors v1, vm, v2;         // their velocities
  Tensors ahead_m, ahead2;    // SAM: at the perturbed model
  int gm, g2;                 // SAM: gradients of Wm and W2
  int x;                      // [B, D]
  int t;                      // [B, U]: (x x^T + 1) d of the first layer
  int dm;                     // [B, M], gradient at z of all units of the second
  int logits, d2;             // [B, C]
  int gram;                   // [B, B], products of samples, 1 added for the bias
  int exchange, part;         // two banks of `part` floats: what other blocks read
  int sums;                   // doubles: one a warp, then two that other blocks read
  int losses;                 // [B] doubles
  int rows, labels;           // [2, B] int64, [B] int32
  int end;
};

// How a model is spread.
struct Plan {
  int blocks;   // of a cluster; 0: the model does not fit
  int units;    // U, hidden units of each block but perhaps the last
  int middles;  // the same of the second hidden layer
  int samples;  // of the batch in a tile of the products: 4, 8 or 10
  int height;   // rows of W1 in such a tile, at most 8
  Shared shared;
};

Plan plan_for(const Model& model);

// A launch. Rows of the models are flat: `w1`, `b1`, ... are offsets in them.
struct Launch {
  Model model;
  Plan plan;
  int64_t w1, b1, wm, bm, w2, b2;

  int clients, steps;  // K, the most steps T
  const float* base;   // [K, ...], where clients start from
  float* out;          // [K, ...], receives the models
  int64_t base_stride, out_stride;
  const float *alpha, *beta;  // [K], of gradient and model in a step
  const float* addend;        // [K, ...], joins the gradient; null: nothing does
  int64_t addend_stride;
  bool addend_wide;       // whether it is read in fours
  const float* rho;       // [K], SAM's radius; null: no ascent
  double eps;             // joins SAM's norm
  double clip, clip_eps;  // largest norm, 0: any
  float momentum;
  bool nesterov;

  const void* x;               // [n, D] uint8 or float
  bool wide;                   // whether x is read in fours: D and its address allow it
  bool bytes;                  // whether x is uint8: scale x + shift then
  const float *scale, *shift;  // [channels]
  int plane;                   // inputs of a channel
  const int64_t* y;            // [n]
  int64_t samples;             // n
  const int64_t* rows;         // [lines, B]
  const int32_t* count;        // [lines]
  const int64_t* offsets;      // [T + 1]: step s of client k is line offsets[s] + k
  double* total;               // [2, K], summed losses: times their samples; once
  int64_t total_stride;
};

// On `stream`; throws std::runtime_error with CUDA's reason. On the host: `order` shuffles threads.
void train(const Launch& launch, uint64_t stream_or_order);

// Clusters that the device runs at once; 0 where it cannot.
int clusters_at_once(const Plan& plan);

}  // namespace fedfast::cuda
