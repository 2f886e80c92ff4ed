// Memory that a thread will want soon, asked for a few lines at a time between the tiles of its
// products: the next batch's samples lie scattered in a large bank, and the next client's row was
// last touched a round ago. A hint: nothing is read or written.
#pragma once

#include <cstdint>

namespace fedfast {

class Upcoming {
 public:
  // `count` samples of a bank, whose rows are where `rows` says; replaces those before.
  void samples(const char* bank, int64_t bytes, const int64_t* rows, int64_t count) {
    bank_ = bank;
    bytes_ = bytes;
    rows_ = rows;
    left_ = bytes > 0 ? count : 0;
    at_ = 0;
  }
  // Memory that will be written; replaces what was before.
  void written(char* begin, int64_t bytes) {
    to_ = begin;
    end_ = begin + bytes;
  }
  // The next few lines.
  void some() {
    if (left_ > 0) sample_lines();
    if (to_ < end_) written_lines();
  }

 private:
  void sample_lines();
  void written_lines();

  const char* bank_ = nullptr;
  int64_t bytes_ = 0, left_ = 0, at_ = 0;
  const int64_t* rows_ = nullptr;
  char *to_ = nullptr, *end_ = nullptr;
};

// This thread's.
Upcoming& upcoming();

}  // namespace fedfast
