#include "plan.h"

#include <algorithm>
#include <atomic>
#include <tuple>

#include "cpu/parallel.h"

namespace fedfast {
namespace {

// What threads that cut operations between them make of the time they have; some are not cut.
constexpr double kCutting = 0.75;

// Steps of the busiest thread if each takes the next client as soon as it is free.
int64_t busiest(const int32_t* steps, int64_t clients, int threads) {
  std::vector<int64_t> busy(threads);
  for (int64_t k = 0; k < clients; ++k) *std::min_element(busy.begin(), busy.end()) += steps[k];
  return *std::max_element(busy.begin(), busy.end());
}

}  // namespace

int64_t Plan::apart(const int32_t* steps, int64_t clients, int threads) {
  int64_t best = clients;
  double least = busiest(steps, clients, threads), together = 0;
  for (int64_t n = clients - 1; n >= 0 && n > clients - threads; --n) {
    together += steps[n] / (kCutting * threads);
    const double time = busiest(steps, n, threads) + together;
    if (time < least) std::tie(least, best) = std::make_pair(time, n);
  }
  return best;
}

bool Plan::run_one(const Part& part) const {
  bool fine = true;
  for (const Action& action : actions_) fine = action(part) && fine;
  return fine;
}

bool Plan::run(int64_t clients, int threads, int64_t elements) const {
  const std::vector<int32_t> once(clients, 1);
  return run_steps(*this, *this, once.data(), clients, threads, elements);
}

bool Plan::run_steps(const Plan& first, const Plan& rest, const int32_t* steps, int64_t clients,
                     int threads, int64_t elements) {
  std::atomic<bool> fine{true};
  const auto train = [&](int64_t k, int each) {
    for (int64_t s = 0; s < steps[k]; ++s) {
      if (!(s == 0 ? first : rest).run_one({k, 1, each, s})) fine.store(false);
    }
  };
  threads = worth(threads, threads, clients * elements);
  const int64_t own = apart(steps, clients, threads);
  parallel(static_cast<int>(std::min<int64_t>(threads, own)), own, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) train(k, 1);
  });
  for (int64_t k = own; k < clients; ++k) train(k, threads);
  return fine;
}

Plan*& Plan::recording() {
  thread_local Plan* plan = nullptr;
  return plan;
}

void feed(const Part& part, const Feed& p) {
  for (int64_t k = 0; k < part.clients; ++k) {
    std::copy_n(p.rows.row(k) + part.step * p.width, p.width, p.rows_now.row(k));
    p.count_now[k] = p.count.row(k)[part.step];
  }
}

template <typename T>
void tally(const Part& part, const Tally<T>& p) {
  for (int64_t k = 0; k < part.clients; ++k) {
    const double before = part.step == 0 ? 0 : p.total[k];
    p.total[k] = before + static_cast<double>(p.losses[k]) * p.count[k];
  }
}

template void tally(const Part&, const Tally<float>&);
template void tally(const Part&, const Tally<double>&);

}  // namespace fedfast
