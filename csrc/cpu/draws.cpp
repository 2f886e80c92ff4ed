#include <algorithm>
#include <vector>

#include "cpu/philox.h"
#include "cpu/uniform_sort.h"
#include "schedule.h"

namespace fedfast {
namespace {

// As fedfast/random.py has them.
constexpr uint32_t kCohort = 1, kBatches = 2, kDropout = 3, kAugment = 4;
constexpr uint32_t kNext = 256;  // from one epoch or step to the next

FEDFAST_CLONES void fill(uint64_t seed, Words counter, int64_t blocks, uint64_t* keys) {
  const uint32_t first = counter[0], purpose = counter[1], client = counter[2], round = counter[3];
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < blocks; ++i) {
    const Words w = philox4x32({first + static_cast<uint32_t>(i), purpose, client, round}, seed);
    keys[2 * i] = w[0] | uint64_t{w[1]} << 32;
    keys[2 * i + 1] = w[2] | uint64_t{w[3]} << 32;
  }
}

int64_t even(int64_t count) { return count + (count & 1); }

uint64_t first_key(const Streams& streams, uint32_t client, uint32_t purpose) {
  const Words w = philox4x32({0, purpose, client, streams.round}, streams.seed);
  return w[0] | uint64_t{w[1]} << 32;
}

double uniform(uint64_t key) { return static_cast<double>(key) * 0x1p-64; }

// How many keys, from 0 on, are below `chance` as uniform numbers: comparing integers is faster.
uint64_t keys_below(double chance) {
  uint64_t low = 0, high = ~uint64_t{0};  // the last key rounds to 1, which no chance exceeds
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    uniform(middle) < chance ? low = middle + 1 : high = middle;
  }
  return low;
}

struct Tagged {
  uint64_t key;
  int64_t place;
};

}  // namespace

// The permutations of clients, one after another; memory is kept from one to the next.
class Shuffle {
 public:
  // A permutation of [0, size): the order of `size` keys, whose low bits carry the places.
  template <typename Take>
  void operator()(const Streams& streams, uint32_t client, uint32_t purpose, int64_t size,
                  const Take& take) {
    if (static_cast<int64_t>(keys_.size()) < even(size)) {
      keys_.resize(even(size));
      spare_.resize(even(size));
    }
    streams.keys(client, purpose, size, keys_.data());
    const uint64_t low = (uint64_t{1} << bits_of(size)) - 1;
    for (int64_t i = 0; i < size; ++i) keys_[i] = (keys_[i] & ~low) | static_cast<uint64_t>(i);
    const uint64_t* sorted =
        sort_(keys_.data(), spare_.data(), size, [](uint64_t key) { return key; });
    take(sorted, low);
  }

 private:
  std::vector<uint64_t> keys_, spare_;
  UniformSort sort_;
};

void Streams::keys(uint32_t client, uint32_t purpose, int64_t count, uint64_t* keys) const {
  fill(seed, {0, purpose, client, round}, even(count) / 2, keys);
}

// Calls use(i, key) for the keys of the cohort's stream, while it returns true.
template <typename Use>
void CohortDraw::each_key(const Use& use) const {
  constexpr int64_t kBlocks = 64;
  uint64_t keys[2 * kBlocks];
  for (int64_t block = 0;; block += kBlocks) {
    fill(streams.seed, {static_cast<uint32_t>(block), kCohort, 0, streams.round}, kBlocks, keys);
    for (int64_t i = 0; i < 2 * kBlocks; ++i) {
      if (!use(2 * block + i, keys[i])) return;
    }
  }
}

void CohortDraw::run() {
  if (exact < 0) return toss();
  2 * exact > population ? choose_many() : choose_few();
  count = exact;
}

// Independent draws with the repetitions left out.
void CohortDraw::choose_few() {
  const int bits = bits_of(4 * exact);
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  std::vector<int64_t> seen(mask + 1, -1);  // open addressing
  const auto n = static_cast<uint64_t>(population);
  int64_t found = 0;
  if (exact == 0) return;
  each_key([&](int64_t, uint64_t key) {
    const auto place = static_cast<int64_t>(key % n);
    uint64_t at = static_cast<uint64_t>(place) * 0x9E3779B97F4A7C15 >> (64 - bits);
    while (seen[at] >= 0 && seen[at] != place) at = (at + 1) & mask;
    if (seen[at] != place) out[found++] = eligible[place];
    seen[at] = place;
    return found < exact;
  });
}

// The clients of the smallest keys.
void CohortDraw::choose_many() {
  std::vector<uint64_t> keys(even(population));
  streams.keys(0, kCohort, population, keys.data());
  std::vector<Tagged> all(population), spare(population);
  for (int64_t i = 0; i < population; ++i) all[i] = {keys[i], i};
  UniformSort sort;
  const Tagged* sorted =
      sort(all.data(), spare.data(), population, [](const Tagged& t) { return t.key; });
  for (int64_t i = 0; i < exact; ++i) out[i] = eligible[sorted[i].place];
}

// Where nobody would take part the likeliest one does.
void CohortDraw::toss() {
  const uint64_t limit = keys_below(chance);
  uint64_t least = ~uint64_t{0};
  count = 0;
  each_key([&](int64_t i, uint64_t key) {
    least = std::min(least, key);
    if (key < limit) out[count++] = eligible[i];
    return i + 1 < population && count < most;
  });
  if (count > 0 || most == 0) return;
  each_key([&](int64_t i, uint64_t key) {
    if (uniform(key) == uniform(least)) out[count++] = eligible[i];
    return i + 1 < population && count < most;
  });
}

void BatchDraw::run() {
  Shuffle shuffle;
  for (int64_t k = 0; k < lines.clients; ++k) one_client(k, shuffle);
}

void BatchDraw::one_client(int64_t k, Shuffle& shuffle) {
  const int64_t size = sizes[k], width = lines.width;
  const int64_t from = owners == nullptr ? 0 : begins[owners[k]];
  const int64_t per_epoch = whole ? size / batch : (size + batch - 1) / batch;
  const auto row = [&](int64_t place) {
    return order == nullptr ? from + place : order[from + place];
  };
  const int64_t padding = size == 0 ? 0 : row(0);
  const auto write = [&](int64_t step, int64_t real, const uint64_t* sorted, uint64_t low) {
    const int64_t line = lines.at(k, step);
    int64_t* to = rows + line * width;
    for (int64_t i = 0; i < real; ++i) to[i] = row(static_cast<int64_t>(sorted[i] & low));
    std::fill(to + real, to + width, padding);
    count[line] = static_cast<int32_t>(real);
  };
  for (int64_t e = 0; e < epochs[k] && per_epoch > 0; ++e) {
    const uint32_t purpose = kBatches + kNext * static_cast<uint32_t>(e);
    shuffle(streams, static_cast<uint32_t>(clients[k]), purpose, size,
            [&](const uint64_t* sorted, uint64_t low) {
              for (int64_t b = 0; b < per_epoch; ++b) {
                const int64_t begin = b * batch, real = std::min(batch, size - begin);
                write(e * per_epoch + b, real, sorted + begin, low);
              }
            });
  }
  const int64_t taken = epochs[k] * per_epoch;
  for (int64_t s = taken; s < lines.steps_of(k, taken); ++s) write(s, 0, nullptr, 0);
}

// Of each key 24 bits move the image down, 24 right, 15 decide whether, 1 mirrors it.
void CropDraw::run() {
  const int64_t width = lines.width, draws = per_batch ? 1 : width;
  const uint64_t reach = static_cast<uint64_t>(2 * pad + 1);
  std::vector<uint64_t> keys(even(draws));
  const auto scaled = [&](uint64_t bits) {
    return static_cast<int32_t>(static_cast<int64_t>((bits & 0xFFFFFF) * reach >> 24) - pad);
  };
  for (int64_t k = 0; k < lines.clients; ++k) {
    for (int64_t s = 0; s < lines.steps_of(k, taken[k]); ++s) {
      const uint32_t purpose = kAugment + kNext * static_cast<uint32_t>(s);
      streams.keys(static_cast<uint32_t>(clients[k]), purpose, draws, keys.data());
      for (int64_t i = 0; i < width; ++i) {
        const uint64_t key = keys[per_batch ? 0 : i];
        const bool moves = static_cast<double>(key >> 48 & 0x7FFF) < chance * 0x8000;
        const int64_t place = lines.at(k, s) * width + i;
        offset[2 * place] = moves ? scaled(key) : 0;
        offset[2 * place + 1] = moves ? scaled(key >> 24) : 0;
        flip[place] = mirrors && (key >> 63) != 0;
      }
    }
  }
}

void SeedDraw::run() {
  for (int64_t k = 0; k < lines.clients; ++k) {
    for (int64_t s = 0; s < lines.steps_of(k, taken[k]); ++s) {
      const uint32_t purpose = kDropout + kNext * static_cast<uint32_t>(s);
      const uint64_t key = first_key(streams, static_cast<uint32_t>(clients[k]), purpose);
      seeds[lines.at(k, s)] = static_cast<int64_t>(key >> 1);
    }
  }
}

}  // namespace fedfast
