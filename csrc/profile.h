// Where the time of operations goes, while a profile is on: per thread, one entry for each name,
// and as many single calls as were asked for. Off, an operation pays one load.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fedfast {
namespace profile {

constexpr int kNone = -1;

// What is known of one kind of call: `phase` it was recorded or called in, `under` the phase whose
// plan it was run by (kNone: called directly).
struct Kind {
  const char* name = nullptr;
  int phase = kNone, under = kNone;

  bool operator==(const Kind& other) const {
    return name == other.name && phase == other.phase && under == other.under;
  }
};

struct Total {
  Kind kind;
  int64_t calls = 0, nanoseconds = 0;
};

struct Call {
  Kind kind;
  int64_t thread = 0, begin = 0, end = 0;  // the system's id; nanoseconds of `now`
};

extern std::atomic<bool> on;
extern std::atomic<int> running;  // the phase whose plan runs

int64_t now();

// The phase that this thread is in, an index of Python's.
int& phase();

void add(const Kind& kind, int64_t begin);

// Forgets what there is, and keeps up to `calls` single calls from now on.
void start(int64_t calls);
void stop();
// What was added since the last time. Not while operations run.
std::pair<std::vector<Total>, std::vector<Call>> take();

// Times its scope as a call of `name`.
class Timed {
 public:
  Timed(const char* name, int phase, bool planned)
      : name_(name), phase_(phase), planned_(planned), begin_(on.load() ? now() : 0) {}
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;
  ~Timed() {
    if (begin_ != 0) add({name_, phase_, planned_ ? running.load() : kNone}, begin_);
  }

 private:
  const char* name_;
  int phase_;
  bool planned_;
  int64_t begin_;
};

// Times its scope as a plan's run, which the plan's operations then belong to.
class Run {
 public:
  Run() : timed_("plan", phase(), false) { running.store(phase()); }
  ~Run() { running.store(kNone); }

 private:
  Timed timed_;
};

}  // namespace profile
}  // namespace fedfast
