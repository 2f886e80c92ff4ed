// A plan: operations recorded once, their addresses with them, and run again and again. A client
// goes through all of them before the next one starts, so that its weights and activations are
// still in the caches when the next operation wants them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "fedfast.h"

namespace fedfast {

// Memory with a row for each thread of a run: where an operand `[K, ...]` begins in the first of
// such rows, it is in a plan not the client's row that is meant, but that of the thread which works
// on the client. So few rows stay in the threads' caches, where K rows would pass through memory.
struct Lanes {
  // The first row of each such memory.
  struct Row {
    std::uintptr_t data = 0;
    int64_t bytes = 0;
  };
  std::vector<Row> rows;

  bool hold(const void* p) const {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    for (const Row& row : rows) {
      if (at - row.data < static_cast<std::uintptr_t>(row.bytes)) return true;
    }
    return false;
  }
};

// A client's row as a sum of others, base + sum_j c_j d_j, rounded after every operation.
struct RowSum {
  static constexpr int kMost = 4;

  std::uintptr_t row = 0;
  int64_t bytes = 0, item = 0;  // of the row, and of an element
  bool past = false;            // whether it should be written past the caches
  const void* base = nullptr;
  int count = 0;  // J, from 1 on
  const void* d[kMost] = {};
  double c[kMost] = {};
};

// The clients [first, first + clients) of an operation's K, at one of their local steps.
struct Part {
  int64_t first = 0, clients = 0;
  int threads = 1;
  int64_t step = 0, line = 0;   // line: of the packed batches
  int64_t rows = 0, width = 0;  // samples that count, of so many in a batch; 0 of 0: all of them
  const Lanes* lanes = nullptr;
  int64_t lane = 0;  // the thread's
  // Of operations that may be such a sum: where to describe it, instead of writing the row.
  RowSum* describe = nullptr;

  // Which row of an operand that begins at p.
  int64_t row_at(const void* p) const { return lanes && lanes->hold(p) ? lane : first; }

  // What is left of `size` numbers, the same for each of a batch's samples.
  int64_t of(int64_t size) const { return rows == width ? size : size / width * rows; }
};

// Batches of clients with descending numbers of steps, packed: step s of client k is line
// offsets[s] + k, so that the lines of one step lie side by side.
struct Lines {
  const int64_t* offsets = nullptr;  // [T + 1]
  int64_t steps = 0;                 // T
  const int32_t* count = nullptr;    // [lines], samples of each that count; null: all
  int64_t width = 0;                 // B, of all lines

  int64_t clients() const { return steps == 0 ? 0 : offsets[1]; }
  // Of each client.
  std::vector<int64_t> steps_each() const;
  // Client k's batch at step s.
  Part part(int64_t k, int64_t s, int threads) const;
};

// What the lines' clients will touch, for threads to have it fetched ahead of time.
//   bank     samples of `bytes` bytes, of which line l takes rows[l, :]
//   models   [K] rows, `stride` bytes apart, that a client's first step writes `written` bytes of
struct Soon {
  const char* bank = nullptr;
  int64_t bytes = 0;
  const int64_t* rows = nullptr;  // [lines, width]
  char* models = nullptr;
  int64_t stride = 0, written = 0;
};

// [K] rows of `bytes` bytes, `stride` bytes apart.
struct Models {
  char* data = nullptr;
  int64_t stride = 0, bytes = 0;
};

class Plan;

// What `Plan::run_steps` does around a client's steps.
//   last    after its last step
//   before  as a thread takes a client: before its first step, and again where another thread goes
//           on with it; fills the thread's row of `lanes`. It is left out where `alike` [K], if
//           given, says that the row would be the one which is there: a client's number is the last
//   form    fills a row of `lanes` as `before` does, which products of steps read. Where it is one
//           sum of few rows it is left out: products form what they read
//   models  [K] rows that steps write each element of once, as products report: where `last` is
//           sums of rows, it follows these reports
struct Around {
  const Plan* last = nullptr;
  const Plan* before = nullptr;
  Lanes lanes = {};
  const int64_t* alike = nullptr;
  const Plan* form = nullptr;
  Models models = {};
};

class Plan {
 public:
  // Does its operation for some clients; false where an index was out of range.
  using Action = std::function<bool(const Part&)>;

  // whole: operations run one after another, each for all clients that it was recorded for.
  explicit Plan(bool whole = false) : whole_(whole) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (recording() == this) recording() = nullptr;
  }

  // An operation for `clients` clients that has numbers for `lines` packed batches.
  // sums: whether it understands `Part::describe`
  void record(Action action, int64_t clients = kAny, int64_t lines = kAny, bool sums = false) {
    sums_ = sums_ && sums;
    actions_.push_back(std::move(action));
    recorded_.push_back(clients);
    clients_ = std::min(clients_, clients);
    lines_ = std::min(lines_, lines);
  }

  // The most clients, and packed batches, that every recorded operation has memory for.
  int64_t clients() const { return actions_.empty() ? 0 : clients_; }
  int64_t lines() const { return lines_; }
  int64_t size() const { return static_cast<int64_t>(actions_.size()); }
  bool whole() const { return whole_; }

  // One step of clients [0, clients), a client being about `elements` numbers' work; whether all
  // were fine. count [clients], of batches of `width`: operations leave the rest of a batch out.
  bool run(int64_t clients, int threads, int64_t elements, const int32_t* count = nullptr,
           int64_t width = 0) const;

  // Operations of a whole plan, as they were called; whether all were fine.
  bool run_whole(int threads) const;

  // The same for all lines: `first` for step 0, `rest` for all others. A thread that is free takes
  // the longest client left, and all of its steps (see `Sharing`).
  static bool run_steps(const Plan& first, const Plan& rest, const Lines& lines, int threads,
                        int64_t elements, const Soon& soon = {}, const Around& around = {});

  // Every operation for one part of the clients; whether all were fine.
  bool run_one(const Part& part) const;
  // What the operations write for a client, in their order; nothing where one is no sum of rows.
  std::vector<RowSum> sums(const Part& part) const;

  // Where this thread's operations are recorded instead of being done; null: they are done.
  static Plan*& recording();

 private:
  static constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

  bool whole_, sums_ = true;
  std::vector<Action> actions_;
  std::vector<int64_t> recorded_;  // clients of each
  int64_t clients_ = kAny, lines_ = kAny;
};

// Who computes which steps of clients that are given longest first: threads together, cutting
// operations between them, or one thread a client's. It changes no bit, only the time.
//
// head  [K], of each client's first steps those that all threads take together, before the others:
//       what a client has more than its thread's share of the work
// own   clients, from the first, whose other steps are one thread's each; those after them, fewer
//       than threads, take all threads one after another, where that ends earlier
struct Sharing {
  std::vector<int64_t> head;
  int64_t own = 0;

  static Sharing of(const std::vector<int64_t>& steps, int threads);
};

// At each step: rows_now = rows[line], count_now = count[line].
struct Feed {
  int64_t lines = 0, width = 0;    // n, B
  const int64_t* rows = nullptr;   // [n, B]
  const int32_t* count = nullptr;  // [n]
  Bank<int64_t> rows_now;          // [K, B]
  int32_t* count_now = nullptr;    // [K]
};

// total += losses * count, from 0 at step 0.
template <typename T>
struct Tally {
  const T* losses = nullptr;       // [K]
  const int32_t* count = nullptr;  // [K]
  double* total = nullptr;         // [K]
};

// At each step: now = table[step], the last number where there are fewer.
template <typename T>
struct Turn {
  int64_t steps = 0;         // T
  const T* table = nullptr;  // [T]
  T* now = nullptr;          // [K]
};

void feed(const Part& part, const Feed& p);
template <typename T>
void turn(const Part& part, const Turn<T>& p);
template <typename T>
void tally(const Part& part, const Tally<T>& p);

}  // namespace fedfast
