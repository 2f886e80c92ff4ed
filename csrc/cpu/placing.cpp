#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/parallel.h"
#include "dealing.h"

namespace fedfast {
namespace {

constexpr int64_t kBlock = 4096;  // numbers that are widened at once

}  // namespace

void sort_by_class(int64_t samples, int64_t classes, const int64_t* labels, const int64_t* first,
                   int32_t* stacks) {
  std::vector<int64_t> at(first, first + classes);
  for (int64_t i = 0; i < samples; ++i) stacks[at[labels[i]]++] = static_cast<int32_t>(i);
}

void cut(int64_t clients, const double* shares, int64_t count, uint32_t* sizes) {
  const auto most = static_cast<double>(count);
  double sum = 0;
  int64_t before = 0;
  for (int64_t i = 0; i + 1 < clients; ++i) {
    sum += shares[i];
    const auto reached = static_cast<int64_t>(std::min(most, std::floor(sum * most + 1e-9)));
    sizes[i] = static_cast<uint32_t>(reached - before);
    before = reached;
  }
  sizes[clients - 1] = static_cast<uint32_t>(count - before);
}

template <typename T>
void place(int threads, int64_t clients, const T* counts, const int32_t* rows, int64_t* at,
           int32_t* order) {
  const int64_t parts = threads * kRangesPerThread;
  std::vector<int64_t> begin(parts + 1, 0);  // of each part's rows
  in_turn(threads, parts, [&](int64_t part) {
    const Range own = part_of(clients, 1, part, parts);
    begin[part + 1] = std::accumulate(counts + own.start, counts + own.stop, int64_t{0});
  });
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  in_turn(threads, parts, [&](int64_t part) {
    const Range own = part_of(clients, 1, part, parts);
    const int32_t* from = rows + begin[part];
    for (int64_t i = own.start; i < own.stop; ++i) {
      const int64_t count = counts[i];
      int32_t* to = order + at[i];
      for (int64_t k = 0; k < count; ++k) to[k] = from[k];
      from += count;
      at[i] += count;
    }
  });
}

template void place(int, int64_t, const uint8_t*, const int32_t*, int64_t*, int32_t*);
template void place(int, int64_t, const uint16_t*, const int32_t*, int64_t*, int32_t*);
template void place(int, int64_t, const uint32_t*, const int32_t*, int64_t*, int32_t*);

void widen(int64_t size, int64_t* memory) {
  std::array<int32_t, kBlock> block;
  for (int64_t end = size; end > 0;) {  // from the end: nothing is written that is still read
    const int64_t begin = std::max<int64_t>(0, end - kBlock);
    const char* narrow = reinterpret_cast<const char*>(memory) + begin * sizeof(int32_t);
    std::memcpy(block.data(), narrow, (end - begin) * sizeof(int32_t));
    for (int64_t k = begin; k < end; ++k) memory[k] = block[k - begin];
    end = begin;
  }
}

}  // namespace fedfast
