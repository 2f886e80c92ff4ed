// A thread that makes draws while the caller computes something else.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "schedule.h"

namespace fedfast {

// One draw and what became of it.
struct Task {
  explicit Task(std::unique_ptr<Draw> given) : draw(std::move(given)) {}

  std::unique_ptr<Draw> draw;
  std::atomic<bool> done{false};
  std::exception_ptr error;  // what it threw
};

// Tasks one after another, on one thread that begins with the first and ends with `stop`. A process
// that was forked has no such thread: there, what is not done yet is done by whoever wants it.
class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() { stop(); }

  // The task's memory must last until it is done.
  void start(Task* task);
  // Waits until it is done; rethrows what it threw.
  void finish(Task* task);
  // Waits until all are done, and ends the thread.
  void stop();

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable given, made;
    std::deque<Task*> waiting;
    bool stopping = false;
    long process = 0;
    std::thread thread;

    void work();
  };

  bool here() const;

  State* state_ = nullptr;  // left alone in a forked process: its thread and its lock are nobody's
};

}  // namespace fedfast
