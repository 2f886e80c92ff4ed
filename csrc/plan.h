// A plan: operations noted once, their addresses with them, and run again and again. A client goes
// through all of them before the next one starts, so that its weights and activations are still in
// the caches when the next operation wants them.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace fedfast {

// The clients [first, first + clients) of an operation's K.
struct Part {
  int64_t first = 0, clients = 0;
  int threads = 1;
};

class Plan {
 public:
  // Does its operation for some clients; false where an index was out of range.
  using Action = std::function<bool(const Part&)>;

  void note(Action action) { actions_.push_back(std::move(action)); }
  int64_t size() const { return static_cast<int64_t>(actions_.size()); }

  // Clients [0, clients), a client being about `elements` numbers' work; whether all were fine.
  bool run(int64_t clients, int threads, int64_t elements) const;

  // Where this thread's operations are noted instead of being done; null: they are done.
  static Plan*& noting();

 private:
  std::vector<Action> actions_;
};

}  // namespace fedfast
