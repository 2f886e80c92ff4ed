#include "plan.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <tuple>

#include "cpu/parallel.h"
#include "cpu/upcoming.h"
#include "row_work.h"

namespace fedfast {
namespace {

// What threads that cut operations between them make of the time they have; some are not cut.
constexpr double kCutting = 0.75;

// Steps of the busiest thread if each takes the next client as soon as it is free.
int64_t busiest(const std::vector<int64_t>& steps, int64_t clients, int threads) {
  std::vector<int64_t> busy(threads);
  for (int64_t k = 0; k < clients; ++k) *std::min_element(busy.begin(), busy.end()) += steps[k];
  return *std::max_element(busy.begin(), busy.end());
}

// The most steps of one client that leave no other thread idle: of the longest clients c, each a
// thread's whole work, the level at which the other threads are as long at the rest. Cutting more
// than kCutting * threads of them at once would take longer than it saves.
int64_t level(const std::vector<int64_t>& steps, int threads) {
  const int64_t clients = steps.size();
  int64_t rest = std::accumulate(steps.begin(), steps.end(), int64_t{0});
  int64_t found = clients == 0 ? 0 : steps[0];
  for (int64_t c = 1; c < kCutting * threads && c < clients && c < threads; ++c) {
    rest -= steps[c - 1];
    const int64_t even = (rest + threads - c - 1) / (threads - c);
    if (even >= found) break;
    found = std::max(even, steps[c]);
    if (even >= steps[c]) break;
  }
  return found;
}

int64_t apart(const std::vector<int64_t>& steps, int threads) {
  const int64_t clients = steps.size();
  int64_t best = clients;
  double least = busiest(steps, clients, threads), together = 0;
  for (int64_t n = clients - 1; n >= 0 && n > clients - threads; --n) {
    together += steps[n] / (kCutting * threads);
    const double time = busiest(steps, n, threads) + together;
    if (time < least) std::tie(least, best) = std::make_pair(time, n);
  }
  return best;
}

}  // namespace

Sharing Sharing::of(const std::vector<int64_t>& steps, int threads) {
  Sharing found{std::vector<int64_t>(steps.size())};
  std::vector<int64_t> left = steps;
  const int64_t most = threads > 1 ? level(steps, threads) : 0;
  for (size_t k = 0; threads > 1 && k < left.size() && left[k] > most; ++k) {
    found.head[k] = left[k] - most;
    left[k] = most;
  }
  found.own = apart(left, threads);
  return found;
}

std::vector<int64_t> Lines::steps_each() const {
  std::vector<int64_t> found(clients());
  for (int64_t s = 0, k = clients(); s < steps; ++s) {
    const int64_t going = s + 1 < steps ? offsets[s + 2] - offsets[s + 1] : 0;
    while (k > going) found[--k] = s + 1;
  }
  return found;
}

Part Lines::part(int64_t k, int64_t s, int threads) const {
  const int64_t line = offsets[s] + k;
  // At least one, for operations on nothing are none; what is wrong with a count the loss will say.
  const int64_t rows = count ? std::clamp<int64_t>(count[line], 1, width) : width;
  return {k, 1, threads, s, line, rows, width};
}

bool Plan::run_one(const Part& part) const {
  bool fine = true;
  for (const Action& action : actions_) fine = action(part) && fine;
  return fine;
}

std::vector<RowSum> Plan::sums(const Part& part) const {
  std::vector<RowSum> found(sums_ ? actions_.size() : 0);
  Part asked = part;
  for (size_t i = 0; i < found.size(); ++i) {
    asked.describe = &found[i];
    if (!actions_[i](asked)) return {};
  }
  return found;
}

bool Plan::run(int64_t clients, int threads, int64_t elements, const int32_t* count,
               int64_t width) const {
  const int64_t offsets[2] = {0, clients};
  return run_steps(*this, *this, {offsets, 1, count, width}, threads, elements);
}

bool Plan::run_whole(int threads) const {
  bool fine = true;
  for (size_t i = 0; i < actions_.size(); ++i) {
    fine = actions_[i]({0, recorded_[i], threads}) && fine;
  }
  return fine;
}

namespace {

// Before a client's step s of `steps`, on one of `threads` threads: the batch that follows, and the
// row of the client after it, which is at a guess `threads` places on.
void expect(const Lines& lines, const Soon& soon, int64_t k, int64_t s, int64_t steps,
            int threads) {
  const bool last = s + 1 == steps;
  const int64_t after = k + threads, client = last ? after : k;
  if (soon.bank && client < lines.clients()) {
    const Part next = lines.part(client, last ? 0 : s + 1, 1);
    upcoming().samples(soon.bank, soon.bytes, soon.rows + next.line * lines.width, next.rows);
  }
  if (soon.models && s == 0 && after < lines.clients()) {
    upcoming().written(soon.models + after * soon.stride, soon.written);
  }
}

// What each thread's row was filled for.
struct Filled {
  std::vector<int64_t> number;

  explicit Filled(int threads) : number(threads, -1) {}
  // Whether it must be filled for a client; it counts as filled then.
  bool stale(const Around& around, const Part& part) {
    if (!around.before) return false;
    if (!around.alike) return true;
    return std::exchange(number[part.lane], around.alike[part.first]) != around.alike[part.first];
  }
};

// What a thread does as it takes a client.
bool enter(const Around& around, const Part& part, Filled& filled) {
  bool fine = true;
  if (filled.stale(around, part)) fine = around.before->run_one(part);
  if (around.form && !row_work().form(*around.form, part))
    fine = around.form->run_one(part) && fine;
  return fine;
}

// A client's step, and what is done behind it, if anything.
bool take(const Plan& step, const Plan* last, const Around& around, const Part& part) {
  if (last == nullptr) return step.run_one(part);
  const Models& models = around.models;
  const bool follows = part.threads == 1 && models.data != nullptr &&
                       row_work().follow(*last, part, models.data + part.first * models.stride);
  bool fine = step.run_one(part);
  if (follows) {
    row_work().finish();
  } else {
    fine = last->run_one(part) && fine;
  }
  return fine;
}

}  // namespace

bool Plan::run_steps(const Plan& first, const Plan& rest, const Lines& lines, int threads,
                     int64_t elements, const Soon& soon, const Around& around) {
  std::atomic<bool> fine{true};
  const std::vector<int64_t> steps = lines.steps_each();
  Filled filled(std::max(threads, 1));
  const auto train = [&](int64_t k, int64_t begin, int64_t end, int each) {
    for (int64_t s = begin; s < end; ++s) {
      if (each == 1) expect(lines, soon, k, s, end, threads);
      Part part = lines.part(k, s, each);
      part.lanes = &around.lanes;
      part.lane = each == 1 ? this_thread() : 0;
      bool good = s > begin || enter(around, part, filled);
      good = take(s == 0 ? first : rest, s + 1 == steps[k] ? around.last : nullptr, around, part) &&
             good;
      if (!good) fine.store(false);
    }
    upcoming() = {};  // what it points to is the run's
    row_work() = {};
  };
  const int64_t clients = steps.size();
  threads = worth(threads, threads, clients * elements);
  const auto [head, own] = Sharing::of(steps, threads);
  for (int64_t k = 0; k < clients && head[k] > 0; ++k) train(k, 0, head[k], threads);
  const auto alone = [&, &head = head](int64_t k) { train(k, head[k], steps[k], 1); };
  in_turn(static_cast<int>(std::min<int64_t>(threads, own)), own, alone);
  for (int64_t k = own; k < clients; ++k) train(k, head[k], steps[k], threads);
  return fine;
}

Plan*& Plan::recording() {
  thread_local Plan* plan = nullptr;
  return plan;
}

void feed(const Part& part, const Feed& p) {
  for (int64_t k = 0; k < part.clients; ++k) {
    std::copy_n(p.rows + (part.line + k) * p.width, p.width, p.rows_now.row(k));
    p.count_now[k] = p.count[part.line + k];
  }
}

template <typename T>
void turn(const Part& part, const Turn<T>& p) {
  if (p.steps > 0) std::fill_n(p.now, part.clients, p.table[std::min(part.step, p.steps - 1)]);
}

template <typename T>
void tally(const Part& part, const Tally<T>& p) {
  for (int64_t k = 0; k < part.clients; ++k) {
    const double before = part.step == 0 ? 0 : p.total[k];
    p.total[k] = before + static_cast<double>(p.losses[k]) * p.count[k];
  }
}

template void turn(const Part&, const Turn<float>&);
template void turn(const Part&, const Turn<double>&);
template void tally(const Part&, const Tally<float>&);
template void tally(const Part&, const Tally<double>&);

}  // namespace fedfast
