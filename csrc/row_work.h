// What a thread does with rows of the client that it works on inside of the products of its step,
// where a plan says so: a row that products read is formed from others as it is read, and a row
// that follows from the new weights follows piece by piece, while these are in the first caches.
// Neither takes a pass of its own then.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "plan.h"

namespace fedfast {

// base + sum_j c_j d_j, rounded after every operation.
template <typename T>
struct Addend {
  static constexpr int kMost = 2;

  const T* base = nullptr;
  int count = 0;  // J
  const T* d[kMost] = {};
  T c[kMost] = {};

  T operator[](int64_t i) const {
    T sum = c[0] * d[0][i];
    for (int j = 1; j < count; ++j) sum = sum + c[j] * d[j][i];
    return base[i] + sum;
  }
};

class RowWork {
 public:
  // From now on the row that the plan's one operation would write is formed by those who read it;
  // whether that is possible.
  bool form(const Plan& plan, const Part& part);

  // What forms the elements from p on, if these are not in memory.
  template <typename T>
  bool formed(const T* p, Addend<T>& to) const {
    const auto offset = reinterpret_cast<std::uintptr_t>(p) - formed_.row;
    if (offset >= static_cast<std::uintptr_t>(formed_.bytes)) return false;
    const int64_t i = offset / sizeof(T);
    to.base = static_cast<const T*>(formed_.base) + i;
    to.count = formed_.count;
    for (int j = 0; j < to.count; ++j) {
      to.d[j] = static_cast<const T*>(formed_.d[j]) + i;
      to.c[j] = static_cast<T>(formed_.c[j]);
    }
    return true;
  }

  // From now on what the plan writes follows what `wrote` reports of the row at `row`; whether it
  // can.
  bool follow(const Plan& plan, const Part& part, const void* row);

  // Whether what follows elements from p on may follow them in pieces of `tile` bytes of rows that
  // are `pitch` bytes apart: where no cache line is in two pieces.
  bool by_tiles(const void* p, int64_t pitch, int64_t tile) const;

  // `rows` pieces of so many bytes, `pitch` bytes apart, have their last value of the step; of
  // elements that `wrote` will report too.
  void wrote_tile(const void* p, int64_t rows, int64_t pitch, int64_t bytes) {
    renew(reinterpret_cast<std::uintptr_t>(p) - row_, rows, pitch, bytes);
  }

  // The elements in these bytes have their last value of the step.
  // tiles: whether `wrote_tile` reported them
  void wrote(const void* p, int64_t bytes, bool tiles = false) {
    const auto offset = reinterpret_cast<std::uintptr_t>(p) - row_;
    if (offset >= static_cast<std::uintptr_t>(bytes_)) return;
    if (!tiles) renew(offset, 1, 0, bytes);
    done(offset, offset + bytes);
  }

  // Whatever was not reported.
  void finish();

 private:
  void renew(int64_t begin, int64_t rows, int64_t pitch, int64_t bytes);
  void done(int64_t begin, int64_t end);

  RowSum formed_;
  std::vector<RowSum> following_;
  std::uintptr_t row_ = 0;
  int64_t bytes_ = 0;
  std::vector<std::pair<int64_t, int64_t>> done_;
};

// This thread's.
RowWork& row_work();

}  // namespace fedfast
