// A row cut into fixed pieces, and sums that add in one fixed order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fedfast.h"

namespace fedfast {

constexpr int64_t kBlock = 4096;  // elements between two slots of a sum; a task of one thread
constexpr int64_t kStrip = 512;   // elements worked on in the first-level cache
static_assert(kBlock % kStrip == 0);

constexpr int64_t kPadding = -1;

// Elements [start, stop) of a row, at most kBlock of them, all in one segment or all in padding.
struct Piece {
  int64_t start, stop, segment;
};

inline void cut(std::vector<Piece>& pieces, int64_t start, int64_t stop, int64_t segment) {
  for (; start < stop; start += kBlock) {
    pieces.push_back({start, std::min(start + kBlock, stop), segment});
  }
}

// The whole row, without regard to segments.
inline std::vector<Piece> cut_row(int64_t size) {
  std::vector<Piece> pieces;
  cut(pieces, 0, size, 0);
  return pieces;
}

// Segments, with the padding between and after them when the row has `size` elements (0: leave
// padding out).
inline std::vector<Piece> cut_segments(const Segments& segments, int64_t size) {
  std::vector<Piece> pieces;
  int64_t end = 0;
  for (int64_t l = 0; l < segments.count; ++l) {
    const int64_t start = segments.offset[l];
    if (size > 0) cut(pieces, end, start, kPadding);
    end = start + segments.length[l];
    cut(pieces, start, end, l);
  }
  cut(pieces, end, size, kPadding);
  return pieces;
}

// Calls body(i, n) for strips [i, i + n) of [start, stop).
template <typename Body>
inline void strips(int64_t start, int64_t stop, const Body& body) {
  for (int64_t i = start; i < stop; i += kStrip) body(i, std::min(kStrip, stop - i));
}

inline double sum_in_order(const double* slots, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += slots[i];
  return sum;
}

}  // namespace fedfast
