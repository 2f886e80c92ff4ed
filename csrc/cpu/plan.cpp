#include "plan.h"

#include <atomic>

#include "cpu/parallel.h"

namespace fedfast {

bool Plan::run(int64_t clients, int threads, int64_t elements) const {
  std::atomic<bool> fine{true};
  parallel(worth(threads, clients, clients * elements), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) {
      const Part part{k, 1, 1};
      for (const Action& action : actions_) {
        if (!action(part)) fine.store(false);
      }
    }
  });
  return fine;
}

Plan*& Plan::noting() {
  thread_local Plan* plan = nullptr;
  return plan;
}

}  // namespace fedfast
