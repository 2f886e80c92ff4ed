#include "team.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace fedfast {
namespace {

// From one loop of a round to the next it is some tens of microseconds; to sleep and to be woken
// costs about as much.
constexpr std::chrono::microseconds kSpin{60};
constexpr int kPauses = 16;  // between two looks at the clock

thread_local int number = 0;
thread_local bool within = false;  // a task: what it calls stays on its thread

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Whether `found` became true before it was time to sleep.
template <typename Found>
bool spun(bool may, const Found& found) {
  if (found()) return true;
  if (!may) return false;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPauses; ++i) {
      pause();
      if (found()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

struct Loop {
  TeamTask task = nullptr;
  const void* context = nullptr;
  int64_t tasks = 0;
};

class Team {
 public:
  explicit Team(pid_t process) : process_(process) {}
  ~Team();

  void run(int threads, const Loop& loop);
  // A forked process has none of the threads, and locks that nobody opens.
  bool here() const { return process_ == getpid(); }

 private:
  void work();
  bool opened(uint64_t before) const;
  void claim();
  void leave();
  void open(int room);
  void close();
  void grow(int threads);

  // The gate to the loop at hand: its number, how many threads may still come in (16 bits), and
  // whether it is open (1 bit). Who has come in may read `loop_` until it leaves.
  static constexpr uint64_t kOpen = 1, kRoom = 2, kLoop = uint64_t{1} << 17;
  static uint64_t room(uint64_t gate) { return gate % kLoop / kRoom; }

  const pid_t process_;
  Loop loop_;
  bool spins_ = true;
  uint64_t room_ = 0;  // that the gate was opened with
  std::vector<std::thread> threads_;
  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint64_t> left_{0};  // threads that came in and left again
  std::atomic<int> sleepers_{0};
  std::atomic<bool> awaited_{false}, ending_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
};

Team::~Team() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::run(int threads, const Loop& loop) {
  grow(threads);
  loop_ = loop;
  next_.store(0, std::memory_order_relaxed);
  left_.store(0, std::memory_order_relaxed);
  open(threads - 1);
  claim();
  close();
}

void Team::grow(int threads) {
  static const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  spins_ = threads <= cores;
  try {
    while (static_cast<int>(threads_.size()) + 1 < threads) {
      threads_.emplace_back([this] { work(); });
    }
  } catch (const std::system_error&) {
    return;  // the system gives no more: those that are there take all tasks
  }
}

void Team::claim() {
  for (;;) {
    const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= loop_.tasks) return;
    loop_.task(loop_.context, i);
  }
}

void Team::open(int room) {
  room_ = room;
  const uint64_t loop = gate_.load(std::memory_order_relaxed) / kLoop + 1;
  gate_.store(loop * kLoop + room_ * kRoom + kOpen);
  // Who falls asleep says so before it looks at the gate again: one of both sees the other.
  if (sleepers_.load() == 0) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (room >= sleepers_.load()) return wake_.notify_all();
  for (int i = 0; i < room; ++i) wake_.notify_one();
}

void Team::close() {
  const uint64_t came = room_ - room(gate_.fetch_and(~kOpen));
  const auto alone = [this, came] { return left_.load() == came; };
  if (spun(spins_, alone)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  awaited_ = true;
  done_.wait(lock, alone);
  awaited_ = false;
}

bool Team::opened(uint64_t before) const {
  const uint64_t gate = gate_.load();
  return (gate & kOpen) && gate / kLoop != before && room(gate) > 0;
}

void Team::leave() {
  left_.fetch_add(1);
  if (!awaited_.load()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  done_.notify_one();
}

void Team::work() {
  within = true;
  bool spins = false;  // before its first loop a thread has nothing to wait for
  for (uint64_t before = 0;;) {
    const auto found = [this, before] { return opened(before) || ending_.load(); };
    if (!spun(spins, found)) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, found);
      sleepers_.fetch_sub(1);
    }
    if (ending_) return;
    uint64_t gate = gate_.load();
    if (!(gate & kOpen) || room(gate) == 0) continue;
    if (!gate_.compare_exchange_strong(gate, gate - kRoom)) continue;
    before = gate / kLoop;
    number = static_cast<int>(room(gate));
    spins = spins_;
    claim();
    leave();
  }
}

// The team of a thread that calls: two that call at once have one each.
struct Own {
  Team* team = nullptr;

  Team& get() {
    if (team == nullptr || !team->here()) team = new Team(getpid());
    return *team;
  }
  ~Own() {
    if (team != nullptr && team->here()) delete team;
  }
};

}  // namespace

int team_number() { return number; }

void run_on_team(int threads, int64_t tasks, TeamTask task, const void* context) {
  threads = static_cast<int>(std::min<int64_t>(threads, tasks));
  if (threads <= 1 || within) {
    for (int64_t i = 0; i < tasks; ++i) task(context, i);
    return;
  }
  thread_local Own own;
  within = true;
  own.get().run(threads, {task, context, tasks});
  within = false;
}

}  // namespace fedfast
