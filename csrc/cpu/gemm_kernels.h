// What gemm.h asks of an instruction set: products of packed tiles, and packing.
#pragma once

#include <cstdint>

#include "plan.h"

namespace fedfast {

template <typename T>
struct Sum;

constexpr int kMaxTileRows = 14;
constexpr int kMaxTileVectors = 2;
constexpr int kMaxDotRows = 12;
constexpr int kMaxBroadVectors = 4;

// sum over p < k of a[p * rows + i] * b[p * b_step + j], stored for all rows and `columns` columns.
template <typename T>
using Tile = void (*)(int64_t k, const T* a, const T* b, int64_t b_step, int64_t columns,
                      const Sum<T>& sum);

// to[p * width + i] = from[i * along + p * deep] for p < k, i < count; zeros for count <= i <
// width.
template <typename T>
using Pack = void (*)(const T* from, int64_t along, int64_t deep, int64_t k, int64_t count,
                      int64_t width, T* to);

// Sums over p < k of a[i * a_row + p] * b[j * b_row + p]: both operands as they lie in memory,
// `rows` x `columns` of them, columns at most Kernels::dot_columns.
template <typename T>
using Dots = void (*)(int64_t k, const T* a, int64_t a_row, const T* b, int64_t b_row,
                      int64_t columns, const Sum<T>& sum);

// c[r * width + j] = start[r] (null: 0; c itself where start is c) + sum over p < k of
// a[r * a_row + p] * b[p * width + j]: a as it lies in memory, b packed in whole vectors.
template <typename T>
using Broad = void (*)(int64_t k, const T* a, int64_t a_row, const T* b, const T* start, T* c);

// out = base + sum_j c_j d_j, rounded after every operation, for n elements of each of `rows`
// pieces that begin `step` elements apart in all operands.
template <typename T>
using RowsSum = void (*)(const T* base, const T* const* d, const T* c, int64_t rows, int64_t step,
                         int64_t n, T* out);

template <typename T>
struct Kernels {
  int rows;                                             // most rows of a tile
  int lanes;                                            // elements of a vector
  int vectors;                                          // most vectors across a tile
  Tile<T> tile[kMaxTileRows + 1][kMaxTileVectors + 1];  // [rows][vectors]
  Pack<T> pack;
  int dot_rows;                                            // most rows of a tile of dots
  int dot_columns;                                         // and columns
  Dots<T> dots[kMaxDotRows + 1];                           // [rows]
  int broad_vectors;                                       // most vectors across a broad tile
  int broad_rows[kMaxBroadVectors + 1];                    // [vectors], most rows
  Broad<T> broad[kMaxTileRows + 1][kMaxBroadVectors + 1];  // [rows][vectors]
  RowsSum<T> sum[RowSum::kMost + 1][2];                    // [J], and whether past the caches
};

enum class Isa { portable, avx2, avx512 };

// The widest this processor has, or the one set by gemm_limit.
Isa gemm_isa();

// Never use more than `isa` from now on: for tests, which would otherwise see one instruction set.
void gemm_limit(Isa isa);

template <typename T>
const Kernels<T>& gemm_kernels();

// This thread's buffer `slot` (0 .. 3), 64-byte aligned, of at least `elements`; valid until the
// slot is next asked for. gemm uses 0 and 1.
template <typename T>
T* scratch(int slot, int64_t elements);

// Defined by gemm_<isa>.cpp; false where this build has no such instructions.
bool avx512_kernels(Kernels<float>& kernels);
bool avx512_kernels(Kernels<double>& kernels);
bool avx2_kernels(Kernels<float>& kernels);
bool avx2_kernels(Kernels<double>& kernels);
void portable_kernels(Kernels<float>& kernels);
void portable_kernels(Kernels<double>& kernels);

}  // namespace fedfast
