// Tasks spread over threads; which thread runs a task never changes what it computes.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef FEDFAST_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace fedfast {

// Below this many elements waking a second thread costs more than it saves.
constexpr int64_t kSerialElements = 1 << 15;

inline int worth(int threads, int64_t tasks, int64_t elements) {
  return elements < kSerialElements ? 1 : static_cast<int>(std::min<int64_t>(threads, tasks));
}

// Calls run(first, last) so that [0, tasks) is covered once, one contiguous range per thread.
template <typename Run>
void parallel(int threads, int64_t tasks, const Run& run) {
  if (threads <= 1) return run(int64_t{0}, tasks);
  const auto share = [&](int t) { run(tasks * t / threads, tasks * (t + 1) / threads); };
#ifdef FEDFAST_STD_THREADS  // for ThreadSanitizer, which cannot see the barriers inside libgomp
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) pool.emplace_back(share, t);
  for (std::thread& thread : pool) thread.join();
#else
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) share(t);
#endif
}

}  // namespace fedfast
