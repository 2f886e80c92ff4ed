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

constexpr int64_t kFew = 64;      // classes that are searched one by one
constexpr int64_t kAhead = 16;    // random accesses that are under way at once
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

// Which class a client's next draw takes, as classes run out.
class Priors {
 public:
  explicit Priors(const Deal& p)
      : p_(p), left_(p.classes), gone_(p.classes, kNever), here_(p.classes), reach_(p.classes) {
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

  // Asks for what `take` will read of a client.
  FEDFAST_INLINE void fetch(int64_t i) const {
    if (p_.owned != nullptr) return __builtin_prefetch(p_.owned + i);
    const double* prior = p_.prior + i * p_.classes;
    for (int64_t c = 0; c < p_.classes; c += 8) __builtin_prefetch(prior + c);
    __builtin_prefetch(prior + p_.classes - 1);
  }

  // The next sample for client i.
  FEDFAST_INLINE int32_t take(int64_t i, double draw) {
    int64_t c = p_.owned != nullptr ? of_alike(p_.owned[i], draw) : p_.classes;
    if (c == p_.classes) {
      cumulate(i);
      c = of(draw);
    }
    while (left_[c] == 0) {
      left_[c] = p_.first[c + 1] - p_.first[c];
      cumulate(i);
      c = of(p_.again->uniform());
    }
    const int32_t row = p_.stacks[p_.first[c] + --left_[c]];
    if (left_[c] == 0 && p_.again == nullptr) exhaust(c);
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

  // The client's prior without the classes that have run out, summed up. A client that has lost
  // all of its classes draws by what was left of each when its last one went.
  FEDFAST_INLINE void cumulate(int64_t i) {
    const double* prior = of_client(i);
    double sum = 0;
    for (int64_t c = 0; c < p_.classes; ++c) reach_[c] = sum += prior[c] * here_[c];
    if (sum != 0) return;
    int64_t lost = 0;
    for (int64_t c = 0; c < p_.classes; ++c) {
      if (prior[c] != 0 && gone_[c] != kNever) lost = std::max(lost, gone_[c]);
    }
    for (int64_t c = 0; c < p_.classes; ++c) {
      reach_[c] = sum += static_cast<double>(then_[lost][c]) * here_[c];
    }
  }

  const double* of_client(int64_t i) {
    if (p_.owned == nullptr) return p_.prior + i * p_.classes;
    const uint64_t owned = p_.owned[i];
    const double share = 1.0 / static_cast<double>(__builtin_popcountll(owned));
    for (int64_t c = 0; c < p_.classes; ++c)
      alike_[c] = share * static_cast<double>((owned >> c) & 1);
    return alike_.data();
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

  FEDFAST_INLINE int64_t of(double draw) const {
    const double total = reach_.back(), low = p_.starve ? reach_[0] : 0.0;
    const auto begin = reach_.begin(), end = reach_.end();
    const double target = low + draw * (total - low);
    if (p_.classes <= kFew) {  // counted without a branch
      const int64_t c = std::count_if(begin, end, [&](double up_to) { return up_to <= target; });
      if (c < p_.classes) return c;
    }
    auto at = std::upper_bound(begin, end, target);
    if (at == end) at = std::lower_bound(begin, end, total);  // rounded up to the end
    return at - begin;
  }

  const Deal& p_;
  std::vector<int64_t> left_;               // samples of each class
  std::vector<int64_t> gone_;               // the entry of `then_` from which on it has none
  std::vector<std::vector<int64_t>> then_;  // left_ at first and as each class ran out
  std::vector<double> here_;                // 1 of classes that are left, else 0
  std::vector<double> reach_;
  uint64_t here_bits_ = 0;                           // the same of up to 64 classes
  std::array<std::vector<double>, 65> alike_reach_;  // of clients with so many classes, all alike
  std::array<double, 64> alike_{};  // the prior of a client that draws from its classes alike
};

FEDFAST_CLONES void in_order(const Deal& p, Priors& priors) {
  for (int64_t i = 0; i < p.clients; ++i) {
    for (int64_t at = p.offsets[i]; at < p.offsets[i + 1]; ++at) {
      p.order[at] = priors.take(i, p.classes_of->uniform());
    }
  }
}

// Each time any of the clients that are not full, all alike. What the coming turns will read is
// fetched ahead by guesses that change nothing: a client may be full by then.
FEDFAST_CLONES void by_turns(const Deal& p, Priors& priors) {
  int64_t waiting = 0;
  for (int64_t i = 0; i < p.clients; ++i) {
    p.filled[i] = {static_cast<int32_t>(p.offsets[i]), static_cast<int32_t>(p.offsets[i + 1])};
    if (p.filled[i].next < p.filled[i].end) p.waiting[waiting++] = static_cast<int32_t>(i);
  }
  std::array<double, kAhead> coming;
  for (double& draw : coming) draw = p.turns->uniform();
  const auto guess = [&](double draw) {
    return p.waiting + static_cast<int64_t>(draw * static_cast<double>(waiting));
  };
  for (int64_t t = 0; waiting > 0; ++t) {
    int32_t* at = guess(coming[t % kAhead]);
    Filled& own = p.filled[*at];
    p.order[own.next++] = priors.take(*at, p.classes_of->uniform());
    if (own.next == own.end) *at = p.waiting[--waiting];
    coming[t % kAhead] = p.turns->uniform();
    __builtin_prefetch(guess(coming[t % kAhead]));
    const int64_t soon = *guess(coming[(t + kAhead / 2) % kAhead]);
    __builtin_prefetch(p.filled + soon, 1);
    priors.fetch(soon);
    const int64_t next = *guess(coming[(t + kAhead / 4) % kAhead]);
    __builtin_prefetch(p.order + p.filled[next].next, 1);
  }
}

}  // namespace

void deal(const Deal& p) {
  Priors priors(p);
  p.turns == nullptr ? in_order(p, priors) : by_turns(p, priors);
}

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
