#include "dealing.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/isa.h"

namespace fedfast {
namespace {

constexpr int64_t kTurns = 256;         // that are drawn together
constexpr double kNear = 0x1p-19;       // of a number: twice what its upper half may be off
constexpr uint32_t kHidden = 1U << 31;  // a share that is not 0 though its upper half is
constexpr double kLarge = 1e-290;       // beside which such shares, below 2^-1022, are nothing
constexpr int64_t kAhead = 16;          // random accesses that are under way at once
constexpr int64_t kBlock = 4096;        // numbers that are widened at once

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

// Turns that are drawn before any of them is dealt.
struct Turns {
  std::array<int32_t, kTurns> client, to;
  std::array<double, kTurns> draw;
  std::array<int32_t, kTurns> of;  // the class
};

// Which class a client's next draw takes, as classes run out.
class Priors {
 public:
  explicit Priors(const Deal& p)
      : p_(p),
        left_(p.classes),
        gone_(p.classes, kNever),
        here_(p.classes),
        reach_(p.classes),
        prior_(p.classes),
        tile_(p.owned == nullptr ? p.classes * kTurns : 0) {
    for (int64_t c = 0; c < p.classes; ++c) {
      left_[c] = p.first[c + 1] - p.first[c];
      if (left_[c] == 0) gone_[c] = 0;
      here_[c] = left_[c] == 0 ? 0.0 : 1.0;
      if (left_[c] != 0) here_bits_ |= uint64_t{1} << (c % 64);
    }
    for (int64_t many = 1; many <= (p.owned == nullptr ? 0 : p.classes); ++many) {
      std::vector<double>& reach = alike_reach_[many];
      for (double sum = 0; static_cast<int64_t>(reach.size()) < many;) {
        reach.push_back(sum += 1.0 / static_cast<double>(many));
      }
    }
    then_.push_back(left_);
  }

  // Asks for what `draw` will read of a client.
  FEDFAST_INLINE void fetch(int64_t i) const {
    if (p_.owned != nullptr) return __builtin_prefetch(p_.owned + i);
    const uint32_t* shares = p_.shares + i * p_.classes;
    for (int64_t c = 0; c < p_.classes; c += 16) __builtin_prefetch(shares + c);
    __builtin_prefetch(shares + p_.classes - 1);
  }

  // The class of each turn's draw in [0, 1), from turn `begin` on.
  FEDFAST_INLINE void draw(Turns& turns, int64_t begin, int64_t count) {
    if (p_.owned != nullptr) {
      for (int64_t k = begin; k < count; ++k) {
        const int64_t c = of_alike(p_.owned[turns.client[k]], turns.draw[k]);
        turns.of[k] = static_cast<int32_t>(c < p_.classes ? c : of_exact(turns, k));
      }
      return;
    }
    for (int64_t k = begin == 0 ? 0 : count; k < count; ++k) {
      const uint32_t* shares = p_.shares + turns.client[k] * p_.classes;
      for (int64_t c = 0; c < p_.classes; ++c) tile_[c * kTurns + k] = shares[c];
    }
    by_shares(turns);
    for (int64_t k = begin; k < count; ++k) {
      if (turns.of[k] < 0) turns.of[k] = static_cast<int32_t>(of_exact(turns, k));
    }
  }

  // The next sample of class c, or of one that client i draws where c begins anew; *ended: whether
  // a class has run out, so that classes drawn before no longer hold.
  FEDFAST_INLINE int32_t take(int64_t i, int64_t c, bool* ended) {
    while (left_[c] == 0) {
      left_[c] = p_.first[c + 1] - p_.first[c];
      c = of_exact(i, p_.again->uniform());
    }
    const int32_t row = p_.stacks[p_.first[c] + --left_[c]];
    *ended = left_[c] == 0 && p_.again == nullptr;
    if (*ended) exhaust(c);
    return row;
  }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  void exhaust(int64_t c) {
    if (std::all_of(left_.begin(), left_.end(), [](int64_t n) { return n == 0; })) return;
    gone_[c] = static_cast<int64_t>(then_.size());
    here_[c] = 0;
    here_bits_ &= ~(uint64_t{1} << (c % 64));
    then_.push_back(left_);
  }

  // All turns' classes by the upper halves h of the shares p: p (1 - 2^-20) < h <= p, so that sums
  // and targets are as near. -1 of a draw that lies so near to the end of a class, and where the
  // upper half of a share says nothing.
  FEDFAST_INLINE void by_shares(Turns& turns) const {
    std::array<double, kTurns> sum{}, reach{}, below, above;
    std::array<int64_t, kTurns> surely{}, perhaps{};
    std::array<uint32_t, kTurns> any{};
    for (int64_t c = 0; c < p_.classes; ++c) {
      const uint32_t* own = tile_.data() + c * kTurns;
      for (int64_t k = 0; k < kTurns; ++k) {
        sum[k] += share(own[k]) * here_[c];
        any[k] |= own[k];
      }
    }
    for (int64_t k = 0; k < kTurns; ++k) {
      const double low = p_.starve ? share(tile_[k]) * here_[0] : 0.0;
      const double target = low + turns.draw[k] * (sum[k] - low);
      below[k] = target - target * kNear;
      above[k] = target + target * kNear;
    }
    for (int64_t c = 0; c < p_.classes; ++c) {
      const uint32_t* own = tile_.data() + c * kTurns;
      for (int64_t k = 0; k < kTurns; ++k) {
        reach[k] += share(own[k]) * here_[c];
        surely[k] += reach[k] <= below[k];
        perhaps[k] += reach[k] <= above[k];
      }
    }
    for (int64_t k = 0; k < kTurns; ++k) {
      const bool seen = any[k] < kHidden || sum[k] > kLarge;
      const bool decided = seen && surely[k] == perhaps[k] && surely[k] < p_.classes;
      turns.of[k] = decided ? static_cast<int32_t>(surely[k]) : -1;
    }
  }

  static FEDFAST_INLINE double share(uint32_t upper) {
    const uint64_t bits = uint64_t{upper} << 32;
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  int64_t of_exact(const Turns& turns, int64_t k) {
    return of_exact(turns.client[k], turns.draw[k]);
  }

  int64_t of_exact(int64_t i, double draw) {
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
  bool lost(int64_t i) {
    const uint32_t* shares = p_.shares + i * p_.classes;
    bool none = true;
    for (int64_t c = 0; c < p_.classes; ++c) {
      prior_[c] = shares[c] != 0;
      none = none && prior_[c] * here_[c] == 0;
    }
    return none;
  }

  // The prior without the classes that have run out, summed up. A client that has lost all of its
  // classes draws by what was left of each when its last one went.
  void cumulate() {
    double sum = 0;
    for (int64_t c = 0; c < p_.classes; ++c) reach_[c] = sum += prior_[c] * here_[c];
    if (sum != 0) return;
    int64_t last = 0;
    for (int64_t c = 0; c < p_.classes; ++c) {
      if (prior_[c] != 0 && gone_[c] != kNever) last = std::max(last, gone_[c]);
    }
    for (int64_t c = 0; c < p_.classes; ++c) {
      reach_[c] = sum += static_cast<double>(then_[last][c]) * here_[c];
    }
  }

  // Among classes that are all left and alike; the number of classes where that is not so.
  FEDFAST_INLINE int64_t of_alike(uint64_t owned, double draw) const {
    if (p_.starve || (owned & ~here_bits_) != 0) return p_.classes;
    const auto& reach = alike_reach_[__builtin_popcountll(owned)];
    const double target = 0.0 + draw * (reach.back() - 0.0);
    for (const double up_to : reach) {
      if (up_to > target) return __builtin_ctzll(owned);
      owned &= owned - 1;
    }
    return p_.classes;
  }

  const Deal& p_;
  std::vector<int64_t> left_;               // samples of each class
  std::vector<int64_t> gone_;               // the entry of `then_` from which on it has none
  std::vector<std::vector<int64_t>> then_;  // left_ at first and as each class ran out
  std::vector<double> here_;                // 1 of classes that are left, else 0
  std::vector<double> reach_, prior_;
  std::vector<uint32_t> tile_;  // [C, kTurns]: what the turns' clients have of each class
  uint64_t here_bits_ = 0;      // the same of up to 64 classes
  std::array<std::vector<double>, 65> alike_reach_;  // of clients with so many classes, all alike
};

// One client after another.
class InOrder {
 public:
  InOrder(const Deal& p, const Priors&) : p_(p) {}

  void next(int64_t count, Turns& turns) {
    for (int64_t k = 0; k < count; ++k, ++at_) {
      while (at_ == end_) end_ += p_.sizes[++client_];
      turns.client[k] = static_cast<int32_t>(client_);
      turns.to[k] = static_cast<int32_t>(at_);
    }
  }

 private:
  const Deal& p_;
  int64_t client_ = -1, at_ = 0, end_ = 0;
};

// Each time any of the clients that are not full, all alike. What turns will read is fetched ahead
// by guesses that change nothing: a client may be full by then.
class AtRandom {
 public:
  AtRandom(const Deal& p, const Priors& priors) : p_(p), priors_(priors) {
    int32_t begin = 0;
    for (int64_t i = 0; i < p.clients; begin = p.filled[i++].end) {
      p.filled[i] = {begin, begin + static_cast<int32_t>(p.sizes[i])};
      if (p.filled[i].next < p.filled[i].end) p.waiting[waiting_++] = static_cast<int32_t>(i);
    }
  }

  FEDFAST_INLINE void next(int64_t count, Turns& turns) {
    const auto guess = [&](double draw) {
      return p_.waiting + static_cast<int64_t>(draw * static_cast<double>(waiting_));
    };
    for (int64_t k = 0; k < count; ++k) {
      turns.draw[k] = p_.turns->uniform();
      __builtin_prefetch(guess(turns.draw[k]), 1);
    }
    for (int64_t k = 0; k < count; ++k) __builtin_prefetch(p_.filled + *guess(turns.draw[k]), 1);
    for (int64_t k = 0; k < count; ++k) {
      int32_t* at = guess(turns.draw[k]);
      Filled& own = p_.filled[*at];
      priors_.fetch(*at);
      __builtin_prefetch(p_.order + own.next, 1);
      turns.client[k] = *at;
      turns.to[k] = own.next++;
      if (own.next == own.end) *at = p_.waiting[--waiting_];
    }
  }

 private:
  const Deal& p_;
  const Priors& priors_;
  int64_t waiting_ = 0;
};

// Classes do not depend on what was dealt before until one of them has run out.
template <typename Source>
FEDFAST_INLINE void deal_from(const Deal& p) {
  Priors priors(p);
  Source source(p, priors);
  Turns turns{};
  for (int64_t left = p.total; left > 0;) {
    const int64_t count = std::min(left, kTurns);
    left -= count;
    source.next(count, turns);
    for (int64_t k = 0; k < count; ++k) turns.draw[k] = p.classes_of->uniform();
    priors.draw(turns, 0, count);
    for (int64_t k = 0; k < count; ++k) {
      bool ended;
      p.order[turns.to[k]] = priors.take(turns.client[k], turns.of[k], &ended);
      if (ended) priors.draw(turns, k + 1, count);
    }
  }
}

FEDFAST_CLONES void in_order(const Deal& p) { deal_from<InOrder>(p); }

FEDFAST_CLONES void by_turns(const Deal& p) { deal_from<AtRandom>(p); }

}  // namespace

void deal(const Deal& p) { p.turns == nullptr ? in_order(p) : by_turns(p); }

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
