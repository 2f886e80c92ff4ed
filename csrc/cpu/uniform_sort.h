// Sorting keys whose highest bits are uniform: each goes to its bucket at once, and what is left is
// a few exchanges of neighbours.
#pragma once

#include <cstdint>
#include <vector>

namespace fedfast {

constexpr int64_t kInsertion = 24;  // below, insertion alone is faster
constexpr int kMostBucketBits = 20;

template <typename T, typename KeyOf>
void insertion_sort(T* x, int64_t n, const KeyOf& key_of) {
  for (int64_t i = 1; i < n; ++i) {
    const T next = x[i];
    int64_t j = i;
    for (; j > 0 && key_of(x[j - 1]) > key_of(next); --j) x[j] = x[j - 1];
    x[j] = next;
  }
}

// Bits that number `n` things: floor(log2 n) + 1, 0 for none.
inline int bits_of(int64_t n) {
  int bits = 0;
  for (; n > 0; n >>= 1) ++bits;
  return bits;
}

class UniformSort {
 public:
  // Sorts x[0, n) by key_of, stably; `spare` has as much room. Returns where the result lies.
  template <typename T, typename KeyOf>
  T* operator()(T* x, T* spare, int64_t n, const KeyOf& key_of) {
    if (n > kInsertion) {
      scatter(x, spare, n, key_of);
      x = spare;
    }
    insertion_sort(x, n, key_of);
    return x;
  }

 private:
  template <typename T, typename KeyOf>
  void scatter(const T* x, T* to, int64_t n, const KeyOf& key_of) {
    const int bits = std::min(bits_of(n), kMostBucketBits), shift = 64 - bits;
    begin_.assign((size_t{1} << bits) + 1, 0);
    uint32_t* begin = begin_.data();
    for (int64_t i = 0; i < n; ++i) ++begin[(key_of(x[i]) >> shift) + 1];
    for (size_t b = 1; b < begin_.size(); ++b) begin[b] += begin[b - 1];
    for (int64_t i = 0; i < n; ++i) to[begin[key_of(x[i]) >> shift]++] = x[i];
  }

  std::vector<uint32_t> begin_;  // of each bucket
};

}  // namespace fedfast
