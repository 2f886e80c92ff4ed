#include "cpu/upcoming.h"

namespace fedfast {
namespace {

constexpr int64_t kLine = 64, kLines = 4;

thread_local Upcoming soon;

}  // namespace

Upcoming& upcoming() { return soon; }

void Upcoming::sample_lines() {
  for (int64_t i = 0; i < kLines; ++i, at_ += kLine) {
    if (at_ >= bytes_) {
      at_ = 0;
      ++rows_;
      if (--left_ == 0) return;
    }
    __builtin_prefetch(bank_ + *rows_ * bytes_ + at_, 0, 2);
  }
}

void Upcoming::written_lines() {
  for (int64_t i = 0; i < kLines; ++i, to_ += kLine) __builtin_prefetch(to_, 1, 2);
}

}  // namespace fedfast
