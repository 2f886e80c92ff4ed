#include "ahead.h"

#include <unistd.h>

namespace fedfast {

bool Worker::here() const { return state_ != nullptr && state_->process == getpid(); }

void Worker::start(Task* task) {
  if (!here()) {
    auto state = std::make_unique<State>();
    state->process = getpid();
    state->thread = std::thread([own = state.get()] { own->work(); });
    state_ = state.release();
  }
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->waiting.push_back(task);
  }
  state_->given.notify_one();
}

void Worker::finish(Task* task) {
  if (here()) {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->made.wait(lock, [task] { return task->done.load(); });
  } else if (!task->done) {
    task->draw->run();
    task->done = true;
  }
  if (task->error) std::rethrow_exception(task->error);
}

void Worker::stop() {
  if (here()) {
    {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      state_->stopping = true;
    }
    state_->given.notify_one();
    state_->thread.join();
    delete state_;
  }
  state_ = nullptr;
}

void Worker::State::work() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    given.wait(lock, [this] { return stopping || !waiting.empty(); });
    if (waiting.empty()) return;
    Task* task = waiting.front();
    waiting.pop_front();
    lock.unlock();
    try {
      task->draw->run();
    } catch (...) {
      task->error = std::current_exception();
    }
    lock.lock();
    task->done = true;
    made.notify_all();
  }
}

}  // namespace fedfast
