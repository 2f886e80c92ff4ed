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

// The clients [first, first + clients) of an operation's K, at one of their local steps.
struct Part {
  int64_t first = 0, clients = 0;
  int threads = 1;
  int64_t step = 0;
};

class Plan {
 public:
  // Does its operation for some clients; false where an index was out of range.
  using Action = std::function<bool(const Part&)>;

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (recording() == this) recording() = nullptr;
  }

  // An operation for `clients` clients that has numbers for `steps` steps of each.
  void record(Action action, int64_t clients = kAny, int64_t steps = kAny) {
    actions_.push_back(std::move(action));
    clients_ = std::min(clients_, clients);
    steps_ = std::min(steps_, steps);
  }

  // The most clients, and steps of a client, that every recorded operation has memory for.
  int64_t clients() const { return actions_.empty() ? 0 : clients_; }
  int64_t steps() const { return steps_; }
  int64_t size() const { return static_cast<int64_t>(actions_.size()); }

  // Clients [0, clients), a client being about `elements` numbers' work; whether all were fine.
  bool run(int64_t clients, int threads, int64_t elements) const;

  // The same for steps[k] steps of each client: `first` for step 0, `rest` for all others. A client
  // takes all of its steps before the next one starts, see `apart`.
  static bool run_steps(const Plan& first, const Plan& rest, const int32_t* steps, int64_t clients,
                        int threads, int64_t elements);

  // How many clients, from the first, are one thread's work each; the others, fewer than threads,
  // take all threads one after another, where that ends earlier.
  static int64_t apart(const int32_t* steps, int64_t clients, int threads);

  // Where this thread's operations are recorded instead of being done; null: they are done.
  static Plan*& recording();

 private:
  bool run_one(const Part& part) const;

  static constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

  std::vector<Action> actions_;
  int64_t clients_ = kAny, steps_ = kAny;
};

// At each step: rows_now = rows[:, step], count_now = count[:, step].
struct Feed {
  int64_t steps = 0, width = 0;  // T, B
  Bank<const int64_t> rows;      // [K, T, B]
  Bank<const int32_t> count;     // [K, T]
  Bank<int64_t> rows_now;        // [K, B]
  int32_t* count_now = nullptr;  // [K]
};

// total += losses * count, from 0 at step 0.
template <typename T>
struct Tally {
  const T* losses = nullptr;       // [K]
  const int32_t* count = nullptr;  // [K]
  double* total = nullptr;         // [K]
};

void feed(const Part& part, const Feed& p);
template <typename T>
void tally(const Part& part, const Tally<T>& p);

}  // namespace fedfast
