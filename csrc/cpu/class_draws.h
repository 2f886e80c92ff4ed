// Which class a client's next draw takes, as classes run out: what `deal` asks of the priors.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dealing.h"

namespace fedfast {

constexpr int64_t kTurns = 256;  // that are drawn together

// Turns that are drawn before any of them is dealt.
struct Turns {
  int64_t count = 0;
  int64_t found_with = -1;  // classes that had run out when `of` was found
  std::array<int32_t, kTurns> client, to;
  std::array<double, kTurns> draw;
  std::array<int32_t, kTurns> of;  // the class, -1 where the whole prior has to be asked
};

// Which classes are left.
struct Here {
  std::vector<double> classes;  // [C], 1 of those that are left, else 0
  uint64_t bits = 0;            // the same of up to 64 classes
  int64_t ended = 0;            // how many have run out since the beginning
};

class Priors {
 public:
  explicit Priors(const Deal& p);

  const Here& here() const { return here_; }

  // The classes of draws in [0, 1) from turn `begin` on, while `here` are left. Many threads may
  // ask at once. room [C, kTurns]
  void find(const Here& here, Turns& turns, int64_t begin, uint32_t* room) const;

  // The rows of all turns: writes order [total].
  void take(Turns& turns, uint32_t* room);

 private:
  static constexpr int64_t kNever = INT64_MAX;

  void exhaust(int64_t c);
  int64_t of_exact(int64_t i, double draw);
  bool lost(int64_t i);
  void cumulate();

  const Deal& p_;
  Here here_;
  std::vector<int64_t> left_;               // samples of each class
  std::vector<int64_t> gone_;               // the entry of `then_` from which on it has none
  std::vector<std::vector<int64_t>> then_;  // left_ at first and as each class ran out
  std::vector<double> reach_, prior_;
  std::array<std::vector<double>, 65> alike_reach_;  // of clients with so many classes, all alike
};

}  // namespace fedfast
