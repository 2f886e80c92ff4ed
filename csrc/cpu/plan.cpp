#include "plan.h"

#include <algorithm>
#include <atomic>

#include "cpu/parallel.h"

namespace fedfast {

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
  parallel(worth(threads, clients, clients * elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      for (int64_t s = 0; s < steps[k]; ++s) {
        if (!(s == 0 ? first : rest).run_one({k, 1, 1, s})) fine.store(false);
      }
    }
  });
  return fine;
}

Plan*& Plan::noting() {
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
