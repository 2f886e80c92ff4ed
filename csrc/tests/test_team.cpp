#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "cpu/team.h"
#include "tests/check.h"

namespace fedfast::tests {
namespace {

template <typename Run>
void team(int threads, int64_t tasks, const Run& run) {
  const auto task = [](const void* context, int64_t i) { (*static_cast<const Run*>(context))(i); };
  run_on_team(threads, tasks, task, &run);
}

// Every task is done once, on a thread of a number below `threads`, and what it wrote can be read.
void loop(int threads, int64_t tasks) {
  std::vector<int64_t> times(tasks), number(tasks);
  team(threads, tasks, [&](int64_t i) {
    ++times[i];
    number[i] = team_number();
  });
  for (int64_t i = 0; i < tasks; ++i) {
    expect("times of a task", times[i], 1, 0);
    expect("number of a thread", number[i] >= 0 && number[i] < threads, true, 0);
  }
  expect("number of the caller", team_number(), 0, 0);
}

void loops() {
  for (int round = 0; round < 300; ++round) loop(1 + round % 5, round % 17);
  for (int pause : {1, 100, 1000}) {  // threads spin, are about to sleep, sleep
    std::this_thread::sleep_for(std::chrono::microseconds(pause));
    for (int round = 0; round < 20; ++round) loop(3, 7);
  }
}

// A loop within a task stays on its thread.
void nested() {
  std::vector<int64_t> sums(9);
  team(3, 9, [&](int64_t i) {
    const int mine = team_number();
    team(3, 10, [&](int64_t j) {
      expect("thread of a loop within", team_number(), mine, 0);
      sums[i] += i * j;
    });
  });
  for (int64_t i = 0; i < 9; ++i) expect("sum of a loop within", sums[i], 45 * i, 0);
}

// Threads that call at once have teams of their own, which end with them.
void at_once() {
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) team(2, 10, [&](int64_t i) { sum += i; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  expect("sum of callers", sum, 3 * 50 * 45, 0);
}

#ifndef FEDFAST_STD_THREADS  // ThreadSanitizer follows no threads behind a fork
void forked() {
  const pid_t child = fork();
  if (child == 0) {
    loop(3, 20);
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  expect("status of the forked process", status, 0, 0);
  loop(3, 20);
}
#else
void forked() {}
#endif

}  // namespace

void test_team() {
  loops();
  nested();
  at_once();
  forked();
}

}  // namespace fedfast::tests
