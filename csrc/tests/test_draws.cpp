// Draws against slow ones, made of single Philox blocks and std::stable_sort.
#include <algorithm>
#include <memory>
#include <set>

#include "cpu/philox.h"
#include "schedule.h"
#include "tests/check.h"

namespace fedfast::tests {
namespace {

constexpr uint64_t kSeed = 0x0123456789ABCDEF;
constexpr uint32_t kRound = 77;
constexpr uint32_t kCohort = 1, kBatches = 2, kDropout = 3, kAugment = 4, kNext = 256;

using Ints = std::vector<int64_t>;

// Key i of a stream: two of them in each block.
uint64_t key_of(uint32_t client, uint32_t purpose, int64_t i) {
  const Words w = philox4x32({static_cast<uint32_t>(i / 2), purpose, client, kRound}, kSeed);
  return i % 2 == 0 ? w[0] | uint64_t{w[1]} << 32 : w[2] | uint64_t{w[3]} << 32;
}

void same(const char* what, const Ints& found, const Ints& expected) {
  expect(what, found.size(), expected.size(), 0);
  for (size_t i = 0; i < expected.size(); ++i) expect(what, found[i], expected[i], 0);
}

Ints ids_of(int64_t population) {
  Ints ids(population);
  for (int64_t i = 0; i < population; ++i) ids[i] = 7 + 3 * i;
  return ids;
}

// By key with the place in its low bits.
Ints permutation(uint32_t client, uint32_t purpose, int64_t size) {
  int bits = 0;
  while (size >> bits) ++bits;
  const uint64_t low = (uint64_t{1} << bits) - 1;
  std::vector<uint64_t> tagged(size);
  for (int64_t i = 0; i < size; ++i) tagged[i] = (key_of(client, purpose, i) & ~low) | i;
  std::sort(tagged.begin(), tagged.end());
  Ints order(size);
  for (int64_t i = 0; i < size; ++i) order[i] = tagged[i] & low;
  return order;
}

Ints slow_cohort(const Ints& ids, int64_t exact) {
  const int64_t n = ids.size();
  Ints found;
  if (2 * exact <= n) {
    std::set<int64_t> seen;
    for (int64_t i = 0; static_cast<int64_t>(found.size()) < exact; ++i) {
      const int64_t place = key_of(0, kCohort, i) % n;
      if (seen.insert(place).second) found.push_back(ids[place]);
    }
    return found;
  }
  Ints order(n);
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [](int64_t a, int64_t b) {
    return key_of(0, kCohort, a) < key_of(0, kCohort, b);
  });
  for (int64_t i = 0; i < exact; ++i) found.push_back(ids[order[i]]);
  return found;
}

Ints slow_toss(const Ints& ids, double chance, size_t most) {
  Ints found;
  double least = 2;
  for (size_t i = 0; i < ids.size(); ++i) {
    const double draw = static_cast<double>(key_of(0, kCohort, i)) * 0x1p-64;
    least = std::min(least, draw);
    if (draw < chance && found.size() < most) found.push_back(ids[i]);
  }
  for (size_t i = 0; i < ids.size() && least >= chance && found.empty(); ++i) {
    if (static_cast<double>(key_of(0, kCohort, i)) * 0x1p-64 == least) found.push_back(ids[i]);
  }
  return found;
}

Ints drawn(const Ints& ids, int64_t exact, double chance, int64_t most) {
  Ints out(most);
  CohortDraw draw;
  draw.streams = {kSeed, kRound};
  draw.eligible = ids.data();
  draw.population = ids.size();
  draw.exact = exact;
  draw.chance = chance;
  draw.most = most;
  draw.out = out.data();
  draw.run();
  out.resize(draw.count);
  return out;
}

void cohorts() {
  for (const int64_t population : {1, 2, 127, 128, 129, 1000}) {
    const Ints ids = ids_of(population);
    for (const int64_t exact : {int64_t{0}, population / 3, population / 2, population}) {
      same("cohort", drawn(ids, exact, 0, exact), slow_cohort(ids, exact));
    }
    for (const double chance : {1e-9, 0.01, 0.5, 1.0}) {
      for (const int64_t most : {int64_t{1}, population}) {
        same("toss", drawn(ids, -1, chance, most), slow_toss(ids, chance, most));
      }
    }
  }
}

// Three clients of unlike sizes, two epochs of the first, packed step by step.
struct Packed {
  Ints clients{900000, 5, 12}, sizes{1000, 33, 1}, epochs{2, 1, 1}, steps, offsets{0};
  int64_t width = 32;
  bool whole;

  explicit Packed(bool leave) : whole(leave) {
    for (size_t k = 0; k < sizes.size(); ++k) steps.push_back(epochs[k] * per_epoch(k));
    for (int64_t s = 0; s < steps[0]; ++s) {
      const auto going = [s](int64_t own) { return own > s; };
      offsets.push_back(offsets.back() + std::count_if(steps.begin(), steps.end(), going));
    }
  }
  int64_t per_epoch(size_t k) const {
    return whole ? sizes[k] / width : (sizes[k] + width - 1) / width;
  }
  DrawnLines lines() const {
    return {3, static_cast<int64_t>(offsets.size()) - 1, width, offsets.data()};
  }
  int64_t total() const { return offsets.back(); }
};

void batches(bool whole) {
  const Packed packed(whole);
  const Ints owners{2, 0, 1}, begins{0, 40, 50};
  Ints order(2000), rows(packed.total() * packed.width);
  for (size_t i = 0; i < order.size(); ++i) order[i] = 5000 - i;
  std::vector<int32_t> count(packed.total());
  BatchDraw draw;
  draw.streams = {kSeed, kRound};
  draw.lines = packed.lines();
  draw.batch = packed.width;
  draw.whole = whole;
  draw.clients = packed.clients.data();
  draw.sizes = packed.sizes.data();
  draw.epochs = packed.epochs.data();
  draw.owners = owners.data();
  draw.begins = begins.data();
  draw.order = order.data();
  draw.rows = rows.data();
  draw.count = count.data();
  draw.run();
  for (size_t k = 0; k < 3; ++k) {
    const int64_t first = begins[owners[k]];
    for (int64_t s = 0; s < packed.steps[k]; ++s) {
      const int64_t epoch = s / packed.per_epoch(k), b = s % packed.per_epoch(k);
      const uint32_t purpose = kBatches + kNext * static_cast<uint32_t>(epoch);
      const Ints own =
          permutation(static_cast<uint32_t>(packed.clients[k]), purpose, packed.sizes[k]);
      const int64_t line = packed.offsets[s] + k;
      const int64_t real = std::min(packed.width, packed.sizes[k] - b * packed.width);
      expect("count", count[line], real, 0);
      for (int64_t i = 0; i < packed.width; ++i) {
        const int64_t place = i < real ? own[b * packed.width + i] : 0;
        expect("rows", rows[line * packed.width + i], order[first + place], 0);
      }
    }
  }
}

void crops(bool per_batch) {
  const Packed packed(false);
  const int64_t slots = packed.total() * packed.width, pad = 3;
  std::vector<int32_t> offset(2 * slots);
  const auto flip = std::make_unique<bool[]>(slots);
  CropDraw draw;
  draw.streams = {kSeed, kRound};
  draw.lines = packed.lines();
  draw.clients = packed.clients.data();
  draw.taken = packed.steps.data();
  draw.pad = pad;
  draw.chance = 0.5;
  draw.mirrors = true;
  draw.per_batch = per_batch;
  draw.offset = offset.data();
  draw.flip = flip.get();
  draw.run();
  for (size_t k = 0; k < 3; ++k) {
    for (int64_t s = 0; s < packed.steps[k]; ++s) {
      for (int64_t i = 0; i < packed.width; ++i) {
        const uint32_t purpose = kAugment + kNext * static_cast<uint32_t>(s);
        const auto client = static_cast<uint32_t>(packed.clients[k]);
        const uint64_t key = key_of(client, purpose, per_batch ? 0 : i);
        const auto moved = [&](int shift) {
          const double share = static_cast<double>(key >> shift & 0xFFFFFF) / (1 << 24);
          return (key >> 48 & 0x7FFF) < 0x4000 ? static_cast<int64_t>(share * 7) - pad : 0;
        };
        const int64_t slot = (packed.offsets[s] + k) * packed.width + i;
        expect("down", offset[2 * slot], moved(0), 0);
        expect("right", offset[2 * slot + 1], moved(24), 0);
        expect("flip", flip[slot], key >> 63, 0);
      }
    }
  }
}

void seeds() {
  const Packed packed(false);
  Ints found(packed.total());
  SeedDraw draw;
  draw.streams = {kSeed, kRound};
  draw.lines = packed.lines();
  draw.clients = packed.clients.data();
  draw.taken = packed.steps.data();
  draw.seeds = found.data();
  draw.run();
  for (size_t k = 0; k < 3; ++k) {
    for (int64_t s = 0; s < packed.steps[k]; ++s) {
      const uint32_t purpose = kDropout + kNext * static_cast<uint32_t>(s);
      const uint64_t key = key_of(static_cast<uint32_t>(packed.clients[k]), purpose, 0);
      expect("seed", found[packed.offsets[s] + k] == static_cast<int64_t>(key >> 1), true, 0);
    }
  }
}

}  // namespace

void test_draws() {
  cohorts();
  for (const bool each : {false, true}) {
    batches(each);
    crops(each);
  }
  seeds();
}

}  // namespace fedfast::tests
