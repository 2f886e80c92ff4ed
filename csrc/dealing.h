// Partitions of a data set over clients: what is sequential in them, drawn from numpy's own
// generators so that the numbers are those of the same loops in Python.
#pragma once

#include <cstdint>
#include <functional>

namespace fedfast {

// What numpy's Generator draws from, as numpy/random/bitgen.h publishes it.
struct BitGenerator {
  void* state;
  uint64_t (*next_uint64)(void*);
  uint32_t (*next_uint32)(void*);
  double (*next_double)(void*);
  uint64_t (*next_raw)(void*);

  double uniform() const { return next_double(state); }
};

// Where a client's next sample goes, and where its samples end.
struct Filled {
  int32_t next, end;
};

// Samples dealt by priors over the classes, see `draw_by_prior`.
struct Deal {
  int64_t clients = 0, classes = 0, total = 0;  // N, C, sum of sizes
  const uint32_t* shares = nullptr;  // [N, C], upper halves of the priors' float64, or null:
  const uint64_t* owned = nullptr;   // [N], bit c: client i draws from class c, all of them alike
  // Writes client i's prior [C], for the few draws that the upper halves do not decide.
  std::function<void(int64_t, double*)> exact;
  const int64_t* sizes = nullptr;   // [N]: samples of each client, which lie one after another
  const int32_t* stacks = nullptr;  // the samples of class c from first[c] on, shuffled
  const int64_t* first = nullptr;   // [C + 1]
  int32_t* order = nullptr;         // [total], written
  Filled* filled = nullptr;         // [N], room to work, where there are turns
  int32_t* waiting = nullptr;       // [N], the same: clients that are not full
  const BitGenerator* classes_of = nullptr;  // which class the next draw takes
  const BitGenerator* turns = nullptr;       // whose turn it is; null: client after client
  const BitGenerator* again = nullptr;       // repeated draws; null: nothing is refilled
  bool starve = false;                       // class 0 last
  int threads = 1;
};

void deal(const Deal& p);

// The samples of each class in order, class c's from stacks + first[c] on.
void sort_by_class(int64_t samples, int64_t classes, const int64_t* labels, const int64_t* first,
                   int32_t* stacks);

// How many of `count` samples each client gets by its share [N], as `_assign.cut` says: sizes [N].
void cut(int64_t clients, const double* shares, int64_t count, uint32_t* sizes);

// The next counts[i] of `rows` for each client i, from order + at[i] on, which moves past them.
template <typename T>
void place(int threads, int64_t clients, const T* counts, const int32_t* rows, int64_t* at,
           int32_t* order);

// The first `size` numbers of 32 bits in a memory become as many of 64 bits, in place.
void widen(int64_t size, int64_t* memory);

// numpy's Generator.shuffle of `size` values.
template <typename T>
void shuffle(int threads, const BitGenerator& bits, int64_t size, T* values);

// numpy's Generator.choice(classes, each, replace=False) for each client: chosen [N, each].
void choose_each(const BitGenerator& bits, int64_t clients, int64_t classes, int64_t each,
                 int32_t* chosen);

// Classes given to the clients of `order` [N] in turn: to each the `each` that the fewest have so
// far, ties at random. has [C, N] gets ones.
void spread_classes(const BitGenerator& bits, int64_t clients, int64_t classes, int64_t each,
                    const int64_t* order, uint8_t* has);

}  // namespace fedfast
