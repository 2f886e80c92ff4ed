// What a convolution asks of an instruction set. All three of its products (output, data gradient,
// weight gradient) are sums over taps of one form, whatever stride, padding and dilation: `at` and
// `deep` are offsets into an image, nothing is unfolded.
#pragma once

#include <cstdint>

namespace fedfast {

constexpr int kMaxSpots = 8;         // rows of a spot tile
constexpr int kMaxSpotVectors = 4;   // vectors across a spot tile
constexpr int kMaxRowChannels = 8;   // channels of a row tile
constexpr int kMaxRowSegments = 3;   // segments of a row tile
constexpr int kMaxGradChannels = 4;  // channels of a row-gradient tile
constexpr int kMaxGradTaps = 6;      // taps of a row-gradient tile

// c[to[j], v] = (add ? itself : 0) + sum over p < depth of x[at[j] + deep[p]] * b[p, v]: one scalar
// of an image times a vector of channels. Without `to`, row j.
template <typename T>
struct Spots {
  const T* x;
  const int32_t* at;    // [j]
  const int32_t* deep;  // [depth]
  int64_t depth;
  const T* b;  // [depth, b_row]
  int64_t b_row;
  T* c;  // [rows, c_row]
  int64_t c_row;
  bool add;
  const int32_t* to;  // [j] or none
};

// A piece of an output row, at most one vector: where it starts in the image and in the output.
struct Segment {
  int32_t from, to, length;
};

// out[i * out_row + to + l] = act(bias[i] + sum over p < depth of w[p * channels + i] *
// x[from + deep[p] + l]): one weight times a vector of columns; act is relu or nothing.
template <typename T>
struct Rows {
  const T* x;
  const Segment* segments;
  const int32_t* deep;  // [depth]
  int64_t depth;
  const T* w;     // [depth, channels]
  const T* bias;  // [channels] or none
  bool relu;
  T* out;
  int64_t out_row;
};

// c[i, j, lane] += sum over segments of d[i * d_row + to + lane] * x[at[j] + from + lane].
template <typename T>
struct RowGrads {
  const T* x;
  const int32_t* at;  // [taps]
  const Segment* segments;
  int64_t count;  // of segments
  const T* d;
  int64_t d_row;
  T* c;
  int64_t c_row;  // from channel to channel; taps lie one vector apart
};

// Minimal filtering of 3 x 3 windows: two by two results cost 16 products instead of 36. Squares of
// pixels, results or taps are lifted into sixteen planes of sums, products are formed plane by
// plane, and what they give is dropped into squares again. Vectors lie along the channels.
constexpr int kPlanes = 16;

template <typename T>
struct Lift {
  const T* rows;
  int64_t row;
  const int32_t* at;     // [count, side * side]: the rows of a square
  int64_t count, width;  // squares, channels (whole vectors)
  T* planes;             // [16][count, width], `plane` and `plane_row` apart
  int64_t plane, plane_row;
};

template <typename T>
struct Drop {
  const T* planes;
  int64_t plane, plane_row;
  int64_t count, width;
  T* rows;
  int64_t row;
  const int32_t* at;
};

// Fourier transforms of squares of 16 x 16 pixels. One becomes nine rows of sixteen complex
// numbers, real parts first; `count` planes lie one behind another.
constexpr int kSpectrumSide = 16, kSpectrumRows = 9;
constexpr int kSpectraA = 4, kSpectraB = 2;  // rows of a tile of products of spectra, and columns

template <typename T>
struct SpectrumLift {
  const T* from;  // the first pixel that is read
  int64_t row, plane, count;
  int top, left;      // where it lies in its square
  int rows, columns;  // that are read; all others are zero
  T* to;
  int64_t to_plane, to_step;  // from row to row of a spectrum, from spectrum to spectrum
};

// The first rows and columns of squares; of plane c act(itself + bias[c]), where act is relu or
// nothing. Windows have neither.
template <typename T>
struct SpectrumDrop {
  const T* from;
  int64_t from_plane, from_step;
  T* to;
  int64_t row, plane, count;
  int rows, columns;
  const T* bias;  // [count] or none
  bool relu;
};

// c[i, j] = (add ? itself : 0) + sum over d of b[d, j] conj(a[d, i]), sixteen frequencies each.
template <typename T>
struct SpectraTile {
  const T *a, *b;  // [depth, kSpectraA], [depth, 1 or kSpectraB] rows of spectra
  int64_t depth;
  int64_t rows;  // of a that count
  T* c;
  int64_t c_a, c_b;  // from i to i, from j to j
  bool add;
};

template <typename T>
struct ConvKernels {
  int lanes;                       // elements of a vector
  int vectors;                     // across the widest spot tile
  int spots[kMaxSpotVectors + 1];  // most spots of a tile of that many vectors, 0: too wide
  int row_channels;                // most channels of a row tile
  int grad_channels, grad_taps;    // most of each in a row-gradient tile
  void (*spot[kMaxSpots + 1][kMaxSpotVectors + 1])(const Spots<T>&);
  void (*row[kMaxRowChannels + 1][kMaxRowSegments + 1])(const Rows<T>&);
  void (*grad[kMaxGradChannels + 1][kMaxGradTaps + 1])(const RowGrads<T>&);
  void (*lift_pixels)(const Lift<T>&);   // 4 x 4, one apart from those of the next square by 2
  void (*lift_results)(const Lift<T>&);  // 2 x 2
  void (*lift_taps)(const Lift<T>&);     // 3 x 3
  void (*drop_results)(const Drop<T>&);
  void (*drop_taps)(const Drop<T>&);
  void (*drop_pixels)(const Drop<T>&);  // added to what is there: squares of pixels overlap
  // None of these without vectors of floats.
  void (*lift_square)(const SpectrumLift<T>&);
  void (*lift_windows)(const SpectrumLift<T>&);  // at most 8 rows; weighted for the way back
  void (*drop_square)(const SpectrumDrop<T>&);   // of products with lifted windows
  void (*drop_windows)(const SpectrumDrop<T>&);  // of products of lifted squares, at most 8 rows
  void (*spectra[kSpectraB + 1])(const SpectraTile<T>&);  // by columns of b
  void (*see)(const T* plane, int64_t row, int64_t rows, int64_t columns, uint32_t* seen);
  // to[j * to_row + i] = from[i * from_row + j] for i < rows, j < columns.
  void (*transpose)(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to,
                    int64_t to_row);
};

// The widest this processor has.
template <typename T>
const ConvKernels<T>& conv_kernels();

// Defined by conv_<isa>.cpp; false where this build has no such instructions.
bool avx512_kernels(ConvKernels<float>& kernels);
bool avx512_kernels(ConvKernels<double>& kernels);
bool avx2_kernels(ConvKernels<float>& kernels);
bool avx2_kernels(ConvKernels<double>& kernels);
void portable_kernels(ConvKernels<float>& kernels);
void portable_kernels(ConvKernels<double>& kernels);

}  // namespace fedfast
