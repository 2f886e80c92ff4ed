#include "plan.h"
#include "tests/check.h"

namespace fedfast::tests {
namespace {

// Each client's steps, in the order they were taken: its number behind so many.
void steps_in_order(const std::vector<int32_t>& steps, int threads) {
  const int64_t clients = steps.size();
  std::vector<int64_t> taken(clients), wrong(clients), widest(clients);
  const auto action = [&](int64_t offset) {
    return [&, offset](const Part& part) {
      const int64_t k = part.first;
      wrong[k] += part.clients != 1 || part.step != taken[k]++ || (part.step == 0) != (offset == 0);
      widest[k] = part.threads;
      return part.first != 2;
    };
  };
  Plan first, rest;
  first.record(action(0));
  rest.record(action(1));
  const bool fine = Plan::run_steps(first, rest, steps.data(), clients, threads, 1 << 20);
  const bool third = clients > 2 && steps[2] > 0;
  expect("plan, an index out of range", fine, !third, 0);
  const int64_t own = Plan::apart(steps.data(), clients, threads);
  expect("plan, clients apart", own > clients - threads || threads == 1, 1, 0);
  for (int64_t k = 0; k < clients; ++k) {
    expect("plan, steps", taken[k], steps[k], 0);
    expect("plan, order", wrong[k], 0, 0);
    if (steps[k] > 0) expect("plan, threads", widest[k], k < own ? 1 : threads, 0);
  }
}

void who_shares_threads(const std::vector<int32_t>& steps, int threads, int64_t own) {
  expect("plan, apart", Plan::apart(steps.data(), steps.size(), threads), own, 0);
}

}  // namespace

void test_plan() {
  for (int threads : {1, 2, 3}) {
    for (int32_t clients = 0; clients < 8; ++clients) {
      std::vector<int32_t> falling, same(clients, 4);
      for (int32_t k = 0; k < clients; ++k) falling.push_back(2 * (clients - k) - 2);
      steps_in_order(falling, threads);
      steps_in_order(same, threads);
    }
  }
  who_shares_threads({}, 2, 0);
  who_shares_threads({5}, 1, 1);
  who_shares_threads({5}, 2, 0);
  who_shares_threads({5, 5}, 2, 2);
  who_shares_threads({5, 5, 5, 5, 5}, 2, 4);
  who_shares_threads({10, 5, 5}, 2, 3);  // one thread takes the first, another the others
  who_shares_threads({4, 4, 4, 4, 4}, 4, 4);
  who_shares_threads({4, 4, 4, 4, 4, 4, 4}, 4, 7);  // three of four threads are as good
}

}  // namespace fedfast::tests
