#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
#include "dealing.h"

namespace fedfast {
namespace {

constexpr int64_t kAhead = 16;          // random accesses that are under way at once
constexpr int64_t kTogether = 1 << 14;  // swaps that go from one thread to another at once

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

// What one thread draws while another swaps what was drawn before.
template <typename T>
void shuffle_by_two(const BitGenerator& bits, int64_t size, T* values) {
  std::array<std::vector<uint32_t>, 2> partners;  // of i, i - 1, ...
  for (auto& drawn : partners) drawn.resize(kTogether);
  const auto block_of = [size](int64_t block) {  // of the steps from size - 1 down to 1
    return Range{std::max<int64_t>(0, size - 1 - (block + 1) * kTogether),
                 size - 1 - block * kTogether};
  };
  const int64_t blocks = (size - 1 + kTogether - 1) / kTogether;
  for (int64_t block = 0; block <= blocks; ++block) {
    in_turn(2, 2, [&](int64_t task) {
      if (task == 0 && block > 0) {
        const Range own = block_of(block - 1);
        const uint32_t* drawn = partners[(block - 1) % 2].data();
        for (int64_t k = 0, i = own.stop; i > own.start; --i, ++k) {
          if (i - kAhead > own.start) __builtin_prefetch(values + drawn[k + kAhead], 1);
          std::swap(values[i], values[drawn[k]]);
        }
      }
      if (task == 1 && block < blocks) {
        const Range own = block_of(block);
        uint32_t* drawn = partners[block % 2].data();
        for (int64_t i = own.stop; i > own.start; --i) {
          *drawn++ = static_cast<uint32_t>(interval(bits, static_cast<uint64_t>(i)));
        }
      }
    });
  }
}

template <typename T>
void shuffle_alone(const BitGenerator& bits, int64_t size, T* values) {
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

}  // namespace

template <typename T>
void shuffle(int threads, const BitGenerator& bits, int64_t size, T* values) {
  const bool small = size <= std::numeric_limits<int32_t>::max();
  if (small && worth(threads, 2, size) > 1) return shuffle_by_two(bits, size, values);
  shuffle_alone(bits, size, values);
}

template void shuffle(int, const BitGenerator&, int64_t, int32_t*);
template void shuffle(int, const BitGenerator&, int64_t, int64_t*);

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
