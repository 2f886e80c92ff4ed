#include "row_work.h"

#include <algorithm>

#include "cpu/gemm_kernels.h"
#include "cpu/stream.h"

namespace fedfast {
namespace {

thread_local RowWork work;

constexpr std::uintptr_t kLine = 64;

// `rows` pieces of so many bytes, `pitch` bytes apart, the first of them at `begin`.
template <typename T>
void write(const RowSum& sum, int64_t begin, int64_t rows, int64_t pitch, int64_t bytes) {
  constexpr int64_t size = sizeof(T);
  const int64_t i = begin / size;
  const T* d[RowSum::kMost];
  T c[RowSum::kMost];
  for (int j = 0; j < sum.count; ++j) {
    d[j] = static_cast<const T*>(sum.d[j]) + i;
    c[j] = static_cast<T>(sum.c[j]);
  }
  T* to = reinterpret_cast<T*>(sum.row) + i;
  gemm_kernels<T>().sum[sum.count][sum.past](static_cast<const T*>(sum.base) + i, d, c, rows,
                                             pitch / size, bytes / size, to);
}

}  // namespace

RowWork& row_work() { return work; }

bool RowWork::form(const Plan& plan, const Part& part) {
  const std::vector<RowSum> found = plan.sums(part);
  const bool one = found.size() == 1 && found[0].count <= Addend<float>::kMost;
  formed_ = one ? found[0] : RowSum{};
  return one;
}

bool RowWork::follow(const Plan& plan, const Part& part, const void* row) {
  following_ = plan.sums(part);
  if (following_.empty()) return false;
  row_ = reinterpret_cast<std::uintptr_t>(row);
  bytes_ = following_[0].bytes;
  done_.clear();
  return true;
}

bool RowWork::by_tiles(const void* p, int64_t pitch, int64_t tile) const {
  const auto offset = reinterpret_cast<std::uintptr_t>(p) - row_;
  if (offset >= static_cast<std::uintptr_t>(bytes_) || pitch % kLine || tile % kLine) return false;
  const auto whole = [offset](const RowSum& sum) { return (sum.row + offset) % kLine == 0; };
  return std::all_of(following_.begin(), following_.end(), whole);
}

void RowWork::renew(int64_t begin, int64_t rows, int64_t pitch, int64_t bytes) {
  for (const RowSum& sum : following_) {
    sum.item == sizeof(float) ? write<float>(sum, begin, rows, pitch, bytes)
                              : write<double>(sum, begin, rows, pitch, bytes);
  }
}

void RowWork::done(int64_t begin, int64_t end) {
  if (!done_.empty() && done_.back().second == begin) {
    done_.back().second = end;
  } else {
    done_.emplace_back(begin, end);
  }
}

void RowWork::finish() {
  std::vector<std::pair<int64_t, int64_t>> done = done_;
  std::sort(done.begin(), done.end());
  done.emplace_back(bytes_, bytes_);
  int64_t at = 0;
  for (const auto& [begin, end] : done) {
    if (at < begin) renew(at, 1, 0, begin - at);
    at = end;
  }
  bytes_ = 0;
  streamed();
}

}  // namespace fedfast
