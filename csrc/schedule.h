// Who trains in a round, and on what: drawn by counters. fedfast/random.py is the reference and
// gives the same bits; there too is what the purposes mean.
#pragma once

#include <cstdint>
#include <memory>

namespace fedfast {

// The streams of one round: numbers are a function of (seed, round, client, purpose, place).
struct Streams {
  uint64_t seed = 0;
  uint32_t round = 0;

  // `count` 64-bit keys of a client and purpose; `keys` has room for an even number.
  void keys(uint32_t client, uint32_t purpose, int64_t count, uint64_t* keys) const;
};

// Draws that are made at once, or by a `Worker` (ahead.h) while others compute.
struct Draw {
  virtual ~Draw() = default;
  virtual void run() = 0;
};

// A cohort: `exact` of the ids `eligible` [N] without replacement, in the order drawn, or (exact <
// 0) each of them with probability `chance`, in their order, `most` at most.
struct CohortDraw final : Draw {
  Streams streams;
  const int64_t* eligible = nullptr;
  int64_t population = 0, exact = -1;
  double chance = 0;
  int64_t most = 0;
  int64_t* out = nullptr;  // [exact] or [most]
  int64_t count = 0;       // how many were drawn

  void run() override;

 private:
  template <typename Use>
  void each_key(const Use& use) const;
  void choose_few();
  void choose_many();
  void toss();
};

// Where step s of client k lies: in line offsets[s] + k, or k T + s without offsets.
struct DrawnLines {
  int64_t clients = 0, steps = 0, width = 0;  // K, T, B
  const int64_t* offsets = nullptr;           // [T + 1], or none

  int64_t at(int64_t k, int64_t s) const {
    return offsets == nullptr ? k * steps + s : offsets[s] + k;
  }
  // Steps [0, steps_of) of client k have a line.
  int64_t steps_of(int64_t k, int64_t taken) const { return offsets == nullptr ? steps : taken; }
};

class Shuffle;  // draws.cpp

// Fresh permutations of each client's samples, one per epoch, cut into batches.
struct BatchDraw final : Draw {
  Streams streams;
  DrawnLines lines;
  int64_t batch = 0;                 // samples of a batch, at most B
  bool whole = false;                // narrower batches are left out
  const int64_t* clients = nullptr;  // [K] ids
  const int64_t* sizes = nullptr;    // [K] samples
  const int64_t* epochs = nullptr;   // [K], each at most steps / batches of an epoch
  const int64_t* owners = nullptr;   // [K], whose samples each client has in the data set, or none
  const int64_t* begins = nullptr;   // where an owner's samples begin in `order`
  const int64_t* order = nullptr;    // rows of the data set; all three none: places from 0 on
  int64_t* rows = nullptr;           // [lines, B]; padding is the client's sample 0
  int32_t* count = nullptr;          // [lines], how many of a batch are real

  void run() override;

 private:
  void one_client(int64_t k, Shuffle& shuffle);
};

// How images are moved and mirrored.
struct CropDraw final : Draw {
  Streams streams;
  DrawnLines lines;
  const int64_t* clients = nullptr;  // [K] ids
  const int64_t* taken = nullptr;    // [K] steps
  int64_t pad = 0;
  double chance = 1;          // of a crop
  bool mirrors = false;       // some of them
  bool per_batch = false;     // one draw for a batch
  int32_t* offset = nullptr;  // [lines, B, 2] (y, x)
  bool* flip = nullptr;       // [lines, B]

  void run() override;
};

// 63-bit seeds of each step's random layers.
struct SeedDraw final : Draw {
  Streams streams;
  DrawnLines lines;
  const int64_t* clients = nullptr;  // [K] ids
  const int64_t* taken = nullptr;    // [K] steps
  int64_t* seeds = nullptr;          // [lines]

  void run() override;
};

}  // namespace fedfast
