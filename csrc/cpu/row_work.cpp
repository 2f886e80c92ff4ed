#include "row_work.h"

#include <algorithm>

#include "cpu/gemm_kernels.h"
#include "cpu/stream.h"

namespace fedfast {
namespace {

thread_local RowWork work;

// Bytes [begin, end) of a row.
template <typename T>
void write(const RowSum& sum, int64_t begin, int64_t end) {
  const int64_t i = begin / int64_t{sizeof(T)}, n = (end - begin) / int64_t{sizeof(T)};
  const T* d[RowSum::kMost];
  T c[RowSum::kMost];
  for (int j = 0; j < sum.count; ++j) {
    d[j] = static_cast<const T*>(sum.d[j]) + i;
    c[j] = static_cast<T>(sum.c[j]);
  }
  T* to = reinterpret_cast<T*>(sum.row) + i;
  gemm_kernels<T>().sum[sum.count][sum.past](static_cast<const T*>(sum.base) + i, d, c, n, to);
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

void RowWork::renew(int64_t begin, int64_t end) {
  for (const RowSum& sum : following_) {
    sum.item == sizeof(float) ? write<float>(sum, begin, end) : write<double>(sum, begin, end);
  }
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
    if (at < begin) renew(at, begin);
    at = end;
  }
  bytes_ = 0;
  streamed();
}

}  // namespace fedfast
