#include "profile.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <pthread.h>
#endif

namespace fedfast {
namespace profile {
namespace {

struct Thread {
  int64_t id = 0;
  std::vector<Total> totals;
  std::vector<Call> calls;
};

std::mutex& guard() {
  static std::mutex mutex;
  return mutex;
}

// Of all threads there ever were: few, since OpenMP and Python keep theirs.
std::vector<std::unique_ptr<Thread>>& threads() {
  static std::vector<std::unique_ptr<Thread>> all;
  return all;
}

std::atomic<int64_t> room{0};  // for single calls

// As Python's `threading.get_native_id`.
int64_t thread_id() {
#ifdef __linux__
  return syscall(SYS_gettid);
#else
  uint64_t id = 0;
  pthread_threadid_np(nullptr, &id);
  return static_cast<int64_t>(id);
#endif
}

Thread& own() {
  thread_local Thread* thread = nullptr;
  if (thread == nullptr) {
    const std::lock_guard<std::mutex> lock(guard());
    threads().push_back(std::make_unique<Thread>());
    thread = threads().back().get();
    thread->id = thread_id();
  }
  return *thread;
}

}  // namespace

std::atomic<bool> on{false};
std::atomic<int> running{kNone};

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int& phase() {
  thread_local int current = kNone;
  return current;
}

void add(const Kind& kind, int64_t begin) {
  const int64_t end = now();
  Thread& thread = own();
  auto& totals = thread.totals;
  auto found = std::find_if(totals.begin(), totals.end(),
                            [&](const Total& total) { return total.kind == kind; });
  if (found == totals.end()) found = totals.insert(totals.end(), {kind, 0, 0});
  found->calls += 1;
  found->nanoseconds += end - begin;
  if (room.load() > 0 && room.fetch_sub(1) > 0) {
    thread.calls.push_back({kind, thread.id, begin, end});
  }
}

void start(int64_t calls) {
  take();
  room.store(calls);
  on.store(true);
}

void stop() { on.store(false); }

std::pair<std::vector<Total>, std::vector<Call>> take() {
  const std::lock_guard<std::mutex> lock(guard());
  std::pair<std::vector<Total>, std::vector<Call>> found;
  for (auto& thread : threads()) {
    for (const Total& total : thread->totals) found.first.push_back(total);
    for (const Call& call : thread->calls) found.second.push_back(call);
    thread->totals.clear();
    thread->calls.clear();
  }
  return found;
}

}  // namespace profile
}  // namespace fedfast
