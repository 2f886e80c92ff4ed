#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "dealing.h"

namespace fedfast {
namespace {

constexpr int64_t kAhead = 16;   // random accesses that are under way at once
constexpr int64_t kBlock = 4096;  // numbers that are widened at once

// An integer in [0, most], as numpy's random_bounded_uint64 draws it (Lemire 2019).
uint64_t bounded(const BitGenerator& bits, uint64_t most) {
  constexpr uint64_t kHalf = std::numeric_limits<uint32_t>::max();
  if (most == 0) return 0;
  if (most == kHalf) return bits.next_uint32(bits.state);
  if (most > kHalf) {
    const uint64_t count = most + 1;
    unsigned __int128 m = static_cast<unsigned __int128>(bits.next_uint64(bits.state)) * count;
    uint64_t low = static_cast<uint64_t>(m);
    if (low < count) {
      const uint64_t threshold = (std::numeric_limits<uint64_t>::max() - most) % count;
      while (low < threshold) {
        m = static_cast<unsigned __int128>(bits.next_uint64(bits.state)) * count;
        low = static_cast<uint64_t>(m);
      }
    }
    return static_cast<uint64_t>(m >> 64);
  }
  const uint32_t count = static_cast<uint32_t>(most) + 1;
  uint64_t m = static_cast<uint64_t>(bits.next_uint32(bits.state)) * count;
  uint32_t low = static_cast<uint32_t>(m);
  if (low < count) {
    const uint32_t threshold =
        (std::numeric_limits<uint32_t>::max() - static_cast<uint32_t>(most)) % count;
    while (low < threshold) {
      m = static_cast<uint64_t>(bits.next_uint32(bits.state)) * count;
      low = static_cast<uint32_t>(m);
    }
  }
  return m >> 32;
}

// An integer in [0, most], as numpy's random_interval draws it: as many bits until they fit.
uint64_t interval(const BitGenerator& bits, uint64_t most) {
  uint64_t mask = most, value;
  for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
  const bool half = most <= std::numeric_limits<uint32_t>::max();
  do {
    value = (half ? bits.next_uint32(bits.state) : bits.next_uint64(bits.state)) & mask;
  } while (value > most);
  return value;
}

}  // namespace

void sort_by_class(int64_t samples, int64_t classes, const int64_t* labels, const int64_t* first,
                   int32_t* stacks) {
  std::vector<int64_t> at(first, first + classes);
  for (int64_t i = 0; i < samples; ++i) stacks[at[labels[i]]++] = static_cast<int32_t>(i);
}

template <typename T>
void place(int64_t clients, const T* counts, const int32_t* rows, int64_t* at, int32_t* order) {
  for (int64_t i = 0; i < clients; ++i) {
    const int64_t count = counts[i];
    int32_t* to = order + at[i];
    for (int64_t k = 0; k < count; ++k) to[k] = rows[k];
    rows += count;
    at[i] += count;
  }
}

template void place(int64_t, const uint8_t*, const int32_t*, int64_t*, int32_t*);
template void place(int64_t, const uint16_t*, const int32_t*, int64_t*, int32_t*);
template void place(int64_t, const uint32_t*, const int32_t*, int64_t*, int32_t*);

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

template <typename T>
void shuffle(const BitGenerator& bits, int64_t size, T* values) {
  std::array<int64_t, kAhead> coming;  // partners of i, i - 1, ...: drawn before they are swapped
  int64_t drawn = size - 1;
  const auto draw = [&] {
    const int64_t j = static_cast<int64_t>(interval(bits, static_cast<uint64_t>(drawn)));
    coming[drawn-- % kAhead] = j;
    __builtin_prefetch(values + j, 1);
  };
  while (drawn >= 1 && drawn > size - 1 - kAhead) draw();
  for (int64_t i = size - 1; i >= 1; --i) {
    std::swap(values[i], values[coming[i % kAhead]]);
    if (drawn >= 1) draw();
  }
}

template void shuffle(const BitGenerator&, int64_t, int32_t*);
template void shuffle(const BitGenerator&, int64_t, int64_t*);

void choose_each(const BitGenerator& bits, int64_t clients, int64_t classes, int64_t each,
                 int32_t* chosen) {
  for (int32_t* own = chosen; own < chosen + clients * each; own += each) {
    for (int64_t k = 0; k < each; ++k) {  // Floyd's algorithm
      const int64_t last = classes - each + k;
      const auto drawn = static_cast<int32_t>(bounded(bits, static_cast<uint64_t>(last)));
      const bool taken = std::find(own, own + k, drawn) != own + k;
      own[k] = taken ? static_cast<int32_t>(last) : drawn;
    }
    for (int64_t k = each - 1; k >= 1; --k) {
      std::swap(own[k], own[bounded(bits, static_cast<uint64_t>(k))]);
    }
  }
}

void spread_classes(const BitGenerator& bits, int64_t clients, int64_t classes, int64_t each,
                    const int64_t* order, uint8_t* has) {
  std::vector<int64_t> holders(classes, 0), by(classes);
  std::vector<double> draws(classes);
  for (int64_t k = 0; k < clients; ++k) {
    for (double& draw : draws) draw = bits.uniform();
    std::iota(by.begin(), by.end(), 0);
    const auto before = [&](int64_t a, int64_t b) {
      return std::tie(holders[a], draws[a], a) < std::tie(holders[b], draws[b], b);
    };
    std::partial_sort(by.begin(), by.begin() + each, by.end(), before);
    for (int64_t j = 0; j < each; ++j) {
      ++holders[by[j]];
      has[by[j] * clients + order[k]] = 1;
    }
  }
}

}  // namespace fedfast
