#include <algorithm>

#include "plan.h"
#include "tests/check.h"

namespace fedfast::tests {
namespace {

// Offsets of packed batches of clients with these steps, descending.
std::vector<int64_t> offsets_of(const std::vector<int64_t>& steps) {
  std::vector<int64_t> found{0};
  for (int64_t s = 0; !steps.empty() && s < steps[0]; ++s) {
    const int64_t going =
        std::count_if(steps.begin(), steps.end(), [s](int64_t each) { return each > s; });
    found.push_back(found.back() + going);
  }
  return found;
}

// Each client's steps in their order, each of the right batch: an action's number behind so many.
void steps_in_order(const std::vector<int64_t>& steps, int threads) {
  const int64_t clients = steps.size();
  const std::vector<int64_t> offsets = offsets_of(steps);
  std::vector<int32_t> count(offsets.back());
  for (size_t i = 0; i < count.size(); ++i) count[i] = i % 7 - 1;
  std::vector<int64_t> taken(clients), wrong(clients), cut(clients);
  const auto action = [&](int64_t offset) {
    return [&, offset](const Part& part) {
      const int64_t k = part.first, line = offsets[part.step] + k;
      wrong[k] += part.clients != 1 || part.step != taken[k]++ || (part.step == 0) != (offset == 0);
      wrong[k] += part.line != line || part.width != 4;
      wrong[k] += part.rows != std::min(std::max(count[line], 1), 4);
      wrong[k] += part.of(4) != part.rows || part.of(12) != 3 * part.rows;
      cut[k] += part.threads > 1;
      return part.first != 2;
    };
  };
  Plan first, rest, last;
  first.record(action(0));
  rest.record(action(1));
  std::vector<int64_t> ends(clients);
  last.record([&](const Part& part) {
    wrong[part.first] += part.clients != 1 || taken[part.first] != steps[part.first];
    ++ends[part.first];
    return true;
  });
  const Lines lines{offsets.data(), static_cast<int64_t>(offsets.size()) - 1, count.data(), 4};
  const bool fine = Plan::run_steps(first, rest, lines, threads, 1 << 20, {}, {&last});
  const bool third = clients > 2 && steps[2] > 0;
  expect("plan, an index out of range", fine, !third, 0);
  // Clients without any step have no line.
  const auto some = static_cast<int64_t>(lines.steps_each().size());
  const Sharing shared = Sharing::of(lines.steps_each(), threads);
  for (int64_t k = 0; k < clients; ++k) {
    expect("plan, steps", taken[k], steps[k], 0);
    expect("plan, order", wrong[k], 0, 0);
    expect("plan, ends", ends[k], steps[k] > 0, 0);
    if (k >= some || threads == 1) continue;
    expect("plan, steps of all threads", cut[k], k < shared.own ? shared.head[k] : steps[k], 0);
  }
}

void who_shares_threads(const std::vector<int64_t>& steps, int threads, int64_t own,
                        std::vector<int64_t> head = {}) {
  const Sharing found = Sharing::of(steps, threads);
  expect("plan, clients apart", found.own, own, 0);
  head.resize(steps.size());
  for (size_t k = 0; k < steps.size(); ++k) expect("plan, head", found.head[k], head[k], 0);
}

}  // namespace

void test_plan() {
  for (int threads : {1, 2, 3}) {
    for (int64_t clients = 0; clients < 8; ++clients) {
      std::vector<int64_t> falling, same(clients, 4), steep;
      for (int64_t k = 0; k < clients; ++k) falling.push_back(2 * (clients - k) - 2);
      for (int64_t k = 0; k < clients; ++k) steep.push_back(40 / (k * k + 1));
      steps_in_order(falling, threads);
      steps_in_order(same, threads);
      steps_in_order(steep, threads);
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
  who_shares_threads({10, 3, 2, 1}, 2, 4, {4});     // what the first has more than all others
  who_shares_threads({10, 3, 2, 1}, 1, 4);
  who_shares_threads({90, 60, 10, 10, 10}, 4, 4, {75, 45});
  who_shares_threads({90, 20, 20, 20, 20, 20}, 3, 5, {40});
}

}  // namespace fedfast::tests
