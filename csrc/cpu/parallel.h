// Tasks spread over threads; which thread runs a task never changes what it computes.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef FEDFAST_STD_THREADS
#include <thread>
#include <vector>
#elif defined(__linux__)
#include "team.h"
#endif

namespace fedfast {

#ifndef FEDFAST_SERIAL_ELEMENTS  // the unit tests ask for threads on small rows too
#define FEDFAST_SERIAL_ELEMENTS (1 << 18)
#endif

// Below this many elements waking a second thread costs more than it saves: it begins some 20 to 50
// us later, and who wakes it pays some of them.
constexpr int64_t kSerialElements = FEDFAST_SERIAL_ELEMENTS;

// Ranges handed to each thread in the mean: a thread that the machine holds up leaves its share to
// the others.
constexpr int64_t kRangesPerThread = 8;

// How many of `threads` threads are worth waking for this much work.
inline int worth(int threads, int64_t tasks, int64_t elements) {
  return elements < kSerialElements ? 1 : static_cast<int>(std::min<int64_t>(threads, tasks));
}

struct Range {
  int64_t start, stop;

  int64_t size() const { return stop - start; }
  // Calls body(start, length) for pieces of `length` and a shorter one at the end.
  template <typename Body>
  void each(int64_t length, const Body& body) const {
    for (int64_t i = start; i < stop; i += length) body(i, std::min(length, stop - i));
  }
};

// Part i of `parts` of [0, size), in whole multiples of `unit`.
inline Range part_of(int64_t size, int64_t unit, int64_t i, int64_t parts) {
  const int64_t units = (size + unit - 1) / unit;
  return {std::min(size, units * i / parts * unit), std::min(size, units * (i + 1) / parts * unit)};
}

// Into how many parts each task is cut so that few threads idle at the end; at most `most`.
inline int64_t parts_for(int threads, int64_t tasks, int64_t most) {
  const int64_t limit = std::max<int64_t>(1, std::min<int64_t>(threads, most));
  for (int64_t parts = 1; parts < limit; ++parts) {
    const int64_t all = tasks * parts, turns = (all + threads - 1) / threads;
    if (turns * threads * 16 <= all * 17) return parts;
  }
  return limit;
}

#ifdef FEDFAST_STD_THREADS
inline thread_local int thread_at = 0;
inline int this_thread() { return thread_at; }
#elif defined(__linux__)
inline int this_thread() { return team_number(); }
#else
inline int this_thread() { return 0; }
#endif

// Calls run(task) for each of [0, tasks) once, on threads whose numbers `this_thread` are below
// `threads`, and below `tasks` where there are fewer of these: a thread that is free takes the
// first one left.
template <typename Run>
void in_turn(int threads, int64_t tasks, const Run& run) {
  if (threads <= 1) {
    for (int64_t i = 0; i < tasks; ++i) run(i);
    return;
  }
#ifdef FEDFAST_STD_THREADS
  // For ThreadSanitizer: tasks are dealt out, not claimed, and no thread is idle, so that every
  // race between tasks can be seen.
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&run, tasks, threads, t] {
      thread_at = t;
      for (int64_t i = t; i < tasks; i += threads) run(i);
    });
  }
  for (std::thread& thread : pool) thread.join();
#elif defined(__linux__)
  const auto task = [](const void* context, int64_t i) { (*static_cast<const Run*>(context))(i); };
  run_on_team(threads, tasks, task, &run);
#else
  for (int64_t i = 0; i < tasks; ++i) run(i);
#endif
}

// Calls run(first, last) on contiguous ranges that cover [0, tasks) once.
template <typename Run>
void parallel(int threads, int64_t tasks, const Run& run) {
  if (threads <= 1) return run(int64_t{0}, tasks);
  const int64_t ranges = std::min(tasks, threads * kRangesPerThread);
  in_turn(threads, ranges, [&](int64_t r) { run(tasks * r / ranges, tasks * (r + 1) / ranges); });
}

}  // namespace fedfast
