#include "dealing.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

namespace fedfast {
namespace {

constexpr int64_t kFew = 64;    // classes that are searched one by one
constexpr int64_t kAhead = 16;  // random accesses that are under way at once

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
    }
    then_.push_back(left_);
  }

  // The next sample for client i.
  int32_t take(int64_t i, double draw) {
    cumulate(i);
    int64_t c = of(draw);
    while (left_[c] == 0) {
      left_[c] = p_.first[c + 1] - p_.first[c];
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
    then_.push_back(left_);
  }

  // The client's prior without the classes that have run out, summed up. A client that has lost
  // all of its classes draws by what was left of each when its last one went.
  void cumulate(int64_t i) {
    const double* prior = p_.prior + i * p_.classes;
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

  int64_t of(double draw) const {
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
};

void in_order(const Deal& p, Priors& priors) {
  for (int64_t i = 0; i < p.clients; ++i) {
    for (int64_t at = p.offsets[i]; at < p.offsets[i + 1]; ++at) {
      p.order[at] = priors.take(i, p.classes_of->uniform());
    }
  }
}

// Each time any of the clients that are not full, all alike. What the coming turns will read is
// fetched ahead by guesses that change nothing: a client may be full by then.
void by_turns(const Deal& p, Priors& priors) {
  std::vector<int32_t> waiting, filled(p.clients, 0);
  for (int64_t i = 0; i < p.clients; ++i) {
    if (p.offsets[i + 1] > p.offsets[i]) waiting.push_back(static_cast<int32_t>(i));
  }
  std::array<double, kAhead> coming;
  for (double& draw : coming) draw = p.turns->uniform();
  const auto guess = [&](double draw) {
    return waiting.data() + static_cast<int64_t>(draw * static_cast<double>(waiting.size()));
  };
  for (int64_t t = 0, all = p.offsets[p.clients]; t < all; ++t) {
    int32_t* at = guess(coming[t % kAhead]);
    const int64_t i = *at, slot = p.offsets[i] + filled[i]++;
    p.order[slot] = priors.take(i, p.classes_of->uniform());
    if (slot + 1 == p.offsets[i + 1]) {
      *at = waiting.back();
      waiting.pop_back();
      if (waiting.empty()) return;
    }
    coming[t % kAhead] = p.turns->uniform();
    __builtin_prefetch(guess(coming[t % kAhead]));
    const int64_t soon = *guess(coming[(t + kAhead / 2) % kAhead]);
    __builtin_prefetch(filled.data() + soon);
    __builtin_prefetch(p.offsets + soon);
    for (int64_t c = 0; c < p.classes; c += 8) __builtin_prefetch(p.prior + soon * p.classes + c);
    const int64_t next = *guess(coming[(t + kAhead / 4) % kAhead]);
    __builtin_prefetch(p.order + p.offsets[next] + filled[next], 1);
  }
}

}  // namespace

void deal(const Deal& p) {
  Priors priors(p);
  p.turns == nullptr ? in_order(p, priors) : by_turns(p, priors);
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
