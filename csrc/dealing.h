// Partitions of a data set over clients: what is sequential in them, drawn from numpy's own
// generators so that the numbers are those of the same loops in Python.
#pragma once

#include <cstdint>

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

// Samples dealt by priors over the classes, see `draw_by_prior`.
struct Deal {
  int64_t clients = 0, classes = 0;  // N, C
  const double* prior = nullptr;     // [N, C]
  const int64_t* offsets = nullptr;  // [N + 1]: client i gets order[offsets[i]:offsets[i + 1]]
  const int32_t* stacks = nullptr;   // the samples of class c from first[c] on, shuffled
  const int64_t* first = nullptr;    // [C + 1]
  int64_t* order = nullptr;          // [offsets[N]], written
  const BitGenerator* classes_of = nullptr;  // which class the next draw takes
  const BitGenerator* turns = nullptr;       // whose turn it is; null: client after client
  const BitGenerator* again = nullptr;       // repeated draws; null: nothing is refilled
  bool starve = false;                       // class 0 last
};

void deal(const Deal& p);

// numpy's Generator.shuffle of `size` values.
template <typename T>
void shuffle(const BitGenerator& bits, int64_t size, T* values);

// numpy's Generator.choice(classes, each, replace=False) for each client: chosen [N, each].
void choose_each(const BitGenerator& bits, int64_t clients, int64_t classes, int64_t each,
                 int32_t* chosen);

// Classes given to the clients of `order` [N] in turn: to each the `each` that the fewest have so
// far, ties at random. has [C, N] gets ones.
void spread_classes(const BitGenerator& bits, int64_t clients, int64_t classes, int64_t each,
                    const int64_t* order, uint8_t* has);

}  // namespace fedfast
