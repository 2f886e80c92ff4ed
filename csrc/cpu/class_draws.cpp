#include "cpu/class_draws.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa.h"

namespace fedfast {
namespace {

constexpr double kNear = 0x1p-19;       // of a number: twice what its upper half may be off
constexpr uint32_t kHidden = 1U << 31;  // a share that is not 0 though its upper half is
constexpr double kLarge = 1e-290;       // beside which such shares, below 2^-1022, are nothing
constexpr int64_t kAhead = 32;          // turns whose shares are fetched ahead

FEDFAST_INLINE double share(uint32_t upper) {
  const uint64_t bits = uint64_t{upper} << 32;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The shares of the turns' clients, class by class: tile [C, kTurns].
void gather(const Deal& p, const Turns& turns, uint32_t* tile) {
  const auto fetch = [&](int64_t k) {
    const uint32_t* shares = p.shares + turns.client[k] * p.classes;
    for (int64_t c = 0; c < p.classes; c += 16) __builtin_prefetch(shares + c);
    __builtin_prefetch(shares + p.classes - 1);
  };
  for (int64_t k = 0; k < std::min(kAhead, turns.count); ++k) fetch(k);
  for (int64_t k = 0; k < turns.count; ++k) {
    if (k + kAhead < turns.count) fetch(k + kAhead);
    const uint32_t* shares = p.shares + turns.client[k] * p.classes;
    for (int64_t c = 0; c < p.classes; ++c) tile[c * kTurns + k] = shares[c];
  }
}

// All turns' classes by the upper halves h of the shares p: p (1 - 2^-20) < h <= p, so that sums
// and targets are as near. -1 of a draw that lies so near to the end of a class, and where the
// upper half of a share says nothing.
FEDFAST_CLONES void by_shares(const Deal& p, const double* here, const uint32_t* tile,
                              Turns& turns) {
  std::array<double, kTurns> sum{}, reach{}, below, above;
  std::array<int64_t, kTurns> surely{}, perhaps{};
  std::array<uint32_t, kTurns> any{};
  for (int64_t c = 0; c < p.classes; ++c) {
    const uint32_t* own = tile + c * kTurns;
    for (int64_t k = 0; k < kTurns; ++k) {
      sum[k] += share(own[k]) * here[c];
      any[k] |= own[k];
    }
  }
  for (int64_t k = 0; k < kTurns; ++k) {
    const double low = p.starve ? share(tile[k]) * here[0] : 0.0;
    const double target = low + turns.draw[k] * (sum[k] - low);
    below[k] = target - target * kNear;
    above[k] = target + target * kNear;
  }
  for (int64_t c = 0; c < p.classes; ++c) {
    const uint32_t* own = tile + c * kTurns;
    for (int64_t k = 0; k < kTurns; ++k) {
      reach[k] += share(own[k]) * here[c];
      surely[k] += reach[k] <= below[k];
      perhaps[k] += reach[k] <= above[k];
    }
  }
  for (int64_t k = 0; k < kTurns; ++k) {
    const bool seen = any[k] < kHidden || sum[k] > kLarge;
    const bool decided = seen && surely[k] == perhaps[k] && surely[k] < p.classes;
    turns.of[k] = decided ? static_cast<int32_t>(surely[k]) : -1;
  }
}

// Among classes that are all left and alike; -1 where that is not so.
FEDFAST_INLINE int32_t of_alike(const std::vector<double>& reach, uint64_t owned, double draw) {
  const double target = 0.0 + draw * (reach.back() - 0.0);
  for (const double up_to : reach) {
    if (up_to > target) return __builtin_ctzll(owned);
    owned &= owned - 1;
  }
  return -1;
}

}  // namespace

Priors::Priors(const Deal& p)
    : p_(p), left_(p.classes), gone_(p.classes, kNever), reach_(p.classes), prior_(p.classes) {
  here_.classes.assign(p.classes, 1.0);
  for (int64_t c = 0; c < p.classes; ++c) {
    left_[c] = p.first[c + 1] - p.first[c];
    if (left_[c] == 0) gone_[c] = 0;
    if (left_[c] == 0) here_.classes[c] = 0;
    if (left_[c] != 0) here_.bits |= uint64_t{1} << (c % 64);
  }
  for (int64_t many = 1; many <= (p.owned == nullptr ? 0 : p.classes); ++many) {
    std::vector<double>& reach = alike_reach_[many];
    for (double sum = 0; static_cast<int64_t>(reach.size()) < many;) {
      reach.push_back(sum += 1.0 / static_cast<double>(many));
    }
  }
  then_.push_back(left_);
}

void Priors::find(const Here& here, Turns& turns, int64_t begin, uint32_t* room) const {
  turns.found_with = here.ended;
  if (p_.owned == nullptr) {
    if (begin == 0) gather(p_, turns, room);
    return by_shares(p_, here.classes.data(), room, turns);
  }
  for (int64_t k = begin; k < turns.count; ++k) {
    if (k + kAhead < turns.count) __builtin_prefetch(p_.owned + turns.client[k + kAhead]);
    const uint64_t owned = p_.owned[turns.client[k]];
    const bool alike = !p_.starve && (owned & ~here.bits) == 0;
    const auto& reach = alike_reach_[__builtin_popcountll(owned)];
    turns.of[k] = alike ? of_alike(reach, owned, turns.draw[k]) : -1;
  }
}

void Priors::take(Turns& turns, uint32_t* room) {
  for (int64_t k = 0; k < turns.count; ++k) __builtin_prefetch(p_.order + turns.to[k], 1);
  if (turns.found_with != here_.ended) find(here_, turns, 0, room);
  bool gathered = false;
  for (int64_t k = 0; k < turns.count; ++k) {
    const int64_t i = turns.client[k];
    int64_t c = turns.of[k] < 0 ? of_exact(i, turns.draw[k]) : turns.of[k];
    while (left_[c] == 0) {  // it begins anew, and client i draws again
      left_[c] = p_.first[c + 1] - p_.first[c];
      c = of_exact(i, p_.again->uniform());
    }
    p_.order[turns.to[k]] = p_.stacks[p_.first[c] + --left_[c]];
    if (left_[c] != 0 || p_.again != nullptr) continue;
    exhaust(c);  // classes found before no longer hold
    find(here_, turns, gathered ? k + 1 : 0, room);
    gathered = true;
  }
}

void Priors::exhaust(int64_t c) {
  if (std::all_of(left_.begin(), left_.end(), [](int64_t n) { return n == 0; })) return;
  gone_[c] = static_cast<int64_t>(then_.size());
  here_.classes[c] = 0;
  here_.bits &= ~(uint64_t{1} << (c % 64));
  ++here_.ended;
  then_.push_back(left_);
}

int64_t Priors::of_exact(int64_t i, double draw) {
  if (p_.owned != nullptr) {
    const uint64_t owned = p_.owned[i];
    const double share = 1.0 / static_cast<double>(__builtin_popcountll(owned));
    for (int64_t c = 0; c < p_.classes; ++c)
      prior_[c] = share * static_cast<double>((owned >> c) & 1);
  } else if (!lost(i)) {
    p_.exact(i, prior_.data());
  }
  cumulate();
  const double total = reach_.back(), low = p_.starve ? reach_[0] : 0.0;
  const auto begin = reach_.begin(), end = reach_.end();
  auto at = std::upper_bound(begin, end, low + draw * (total - low));
  if (at == end) at = std::lower_bound(begin, end, total);  // rounded up to the end
  return at - begin;
}

// Whether a client has lost all of its classes: then it is enough which they were.
bool Priors::lost(int64_t i) {
  const uint32_t* shares = p_.shares + i * p_.classes;
  bool none = true;
  for (int64_t c = 0; c < p_.classes; ++c) {
    prior_[c] = shares[c] != 0;
    none = none && prior_[c] * here_.classes[c] == 0;
  }
  return none;
}

// The prior without the classes that have run out, summed up. A client that has lost all of its
// classes draws by what was left of each when its last one went.
void Priors::cumulate() {
  double sum = 0;
  for (int64_t c = 0; c < p_.classes; ++c) reach_[c] = sum += prior_[c] * here_.classes[c];
  if (sum != 0) return;
  int64_t last = 0;
  for (int64_t c = 0; c < p_.classes; ++c) {
    if (prior_[c] != 0 && gone_[c] != kNever) last = std::max(last, gone_[c]);
  }
  for (int64_t c = 0; c < p_.classes; ++c) {
    reach_[c] = sum += static_cast<double>(then_[last][c]) * here_.classes[c];
  }
}

}  // namespace fedfast
