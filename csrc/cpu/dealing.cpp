#include "dealing.h"

#include <algorithm>
#include <array>
#include <exception>
#include <vector>

#include "cpu/class_draws.h"
#include "cpu/parallel.h"

namespace fedfast {
namespace {

constexpr int64_t kTiles = 64;      // of kTurns, that go from one thread to another at once
constexpr int64_t kTilesEach = 16;  // whose classes a task finds
constexpr int64_t kStages = 3;      // drawn, found, taken

// One client after another.
class InOrder {
 public:
  explicit InOrder(const Deal& p) : p_(p) {}

  void next(Turns& turns) {
    for (int64_t k = 0; k < turns.count; ++k, ++at_) {
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
  explicit AtRandom(const Deal& p) : p_(p) {
    int32_t begin = 0;
    for (int64_t i = 0; i < p.clients; begin = p.filled[i++].end) {
      p.filled[i] = {begin, begin + static_cast<int32_t>(p.sizes[i])};
      if (p.filled[i].next < p.filled[i].end) p.waiting[waiting_++] = static_cast<int32_t>(i);
    }
  }

  void next(Turns& turns) {
    std::array<double, kTurns> draw;
    const auto guess = [&](int64_t k) {
      return p_.waiting + static_cast<int64_t>(draw[k] * static_cast<double>(waiting_));
    };
    for (int64_t k = 0; k < turns.count; ++k) {
      draw[k] = p_.turns->uniform();
      __builtin_prefetch(guess(k), 1);
    }
    for (int64_t k = 0; k < turns.count; ++k) __builtin_prefetch(p_.filled + *guess(k), 1);
    for (int64_t k = 0; k < turns.count; ++k) {
      int32_t* at = guess(k);
      Filled& own = p_.filled[*at];
      turns.client[k] = *at;
      turns.to[k] = own.next++;
      if (own.next == own.end) *at = p_.waiting[--waiting_];
    }
  }

 private:
  const Deal& p_;
  int64_t waiting_ = 0;
};

// Turns are drawn one after another, so are classes' draws, and so are samples taken: each by one
// thread at a time, while others find the classes of the turns between. Classes do not depend on
// what was dealt before until one of them has run out, which `take` sees and puts right. So nothing
// depends on how many threads there are.
template <typename Source>
class Dealing {
 public:
  explicit Dealing(const Deal& p)
      : p_(p),
        threads_(worth(p.threads, kStages, p.total)),
        tiles_(threads_ > 1 ? kTiles : 1),
        priors_(p),
        source_(p),
        left_(p.total) {
    for (auto& stage : stages_) stage.resize(tiles_);
    const int64_t room = p.owned == nullptr ? p.classes * kTurns : 0;
    rooms_.assign(threads_, std::vector<uint32_t>(room));
  }

  void run() {
    const int64_t each = tiles_ * kTurns, blocks = (p_.total + each - 1) / each;
    for (int64_t block = 0; block < blocks + kStages - 1; ++block) step(block);
  }

 private:
  std::vector<Turns>& stage(int64_t block) { return stages_[(block + kStages) % kStages]; }

  // Takes block - 2, finds block - 1 and draws `block`.
  void step(int64_t block) {
    for (Turns& turns : stage(block)) {
      turns.count = std::min(left_, kTurns);
      left_ -= turns.count;
    }
    const Here here = priors_.here();
    const int64_t groups = (tiles_ + kTilesEach - 1) / kTilesEach;
    in_turn(threads_, kStages + groups, [&](int64_t task) {
      if (task == 0) return take(stage(block - 2));
      if (task == 1) return turns(stage(block));
      if (task == 2) return draws(stage(block));
      find(here, stage(block - 1), (task - kStages) * kTilesEach);
    });
    if (failed_) std::rethrow_exception(failed_);
  }

  void turns(std::vector<Turns>& tiles) {
    for (Turns& turns : tiles) source_.next(turns);
  }

  void draws(std::vector<Turns>& tiles) {
    for (Turns& turns : tiles) {
      for (int64_t k = 0; k < turns.count; ++k) turns.draw[k] = p_.classes_of->uniform();
    }
  }

  void find(const Here& here, std::vector<Turns>& tiles, int64_t first) {
    for (int64_t t = first; t < std::min(first + kTilesEach, tiles_); ++t) {
      priors_.find(here, tiles[t], 0, rooms_[this_thread()].data());
    }
  }

  void take(std::vector<Turns>& tiles) {
    try {
      for (Turns& turns : tiles) priors_.take(turns, rooms_[this_thread()].data());
    } catch (...) {  // of the function that writes a prior
      failed_ = std::current_exception();
    }
  }

  const Deal& p_;
  const int threads_;
  const int64_t tiles_;
  Priors priors_;
  Source source_;
  int64_t left_;  // turns that are not drawn yet
  std::array<std::vector<Turns>, kStages> stages_;
  std::vector<std::vector<uint32_t>> rooms_;  // of each thread
  std::exception_ptr failed_;
};

}  // namespace

void deal(const Deal& p) {
  p.turns == nullptr ? Dealing<InOrder>(p).run() : Dealing<AtRandom>(p).run();
}

}  // namespace fedfast
