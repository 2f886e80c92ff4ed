#include "pages.h"

#include <algorithm>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#define FEDFAST_ADVICE 1
#endif

namespace fedfast {
namespace {

#ifdef FEDFAST_ADVICE
uintptr_t page_of(const char* at) {
  static const uintptr_t kPage = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  return reinterpret_cast<uintptr_t>(at) / kPage * kPage;
}

// Advice is a hint: a mapping that takes none is read as it is.
void advise(uintptr_t from, uintptr_t to, int advice) {
  madvise(reinterpret_cast<void*>(from), to - from, advice);
}
#endif

}  // namespace

int64_t will_need(const char* base, int64_t row_bytes, const int64_t* rows, int64_t n) {
  int64_t asked = 0;
#ifdef FEDFAST_ADVICE
  std::vector<int64_t> sorted(rows, rows + n);
  std::sort(sorted.begin(), sorted.end());
  uintptr_t from = 0, to = 0;
  for (const int64_t row : sorted) {
    const uintptr_t first = page_of(base + row * row_bytes);
    const uintptr_t end = reinterpret_cast<uintptr_t>(base + (row + 1) * row_bytes);
    if (asked > 0 && first <= to) {
      to = std::max(to, end);
      continue;
    }
    if (asked > 0) advise(from, to, MADV_WILLNEED);
    from = first;
    to = end;
    ++asked;
  }
  if (asked > 0) advise(from, to, MADV_WILLNEED);
#else
  (void)base, (void)row_bytes, (void)rows, (void)n;
#endif
  return asked;
}

bool is_touched(const void* p) {
#ifdef __linux__
  unsigned char there = 1;
  const uintptr_t page = page_of(static_cast<const char*>(p));
  return mincore(reinterpret_cast<void*>(page), 1, &there) != 0 || (there & 1);
#else
  return (void)p, true;
#endif
}

void touch(void* p, int64_t bytes) {
#if defined(__linux__) && defined(MADV_POPULATE_WRITE)
  const auto from = static_cast<const char*>(p);
  advise(page_of(from), reinterpret_cast<uintptr_t>(from) + bytes, MADV_POPULATE_WRITE);
#else
  (void)p, (void)bytes;
#endif
}

void any_order(const char* base, int64_t bytes) {
#ifdef FEDFAST_ADVICE
  const uintptr_t from = page_of(base);
  advise(from, reinterpret_cast<uintptr_t>(base + bytes), MADV_RANDOM);
#else
  (void)base, (void)bytes;
#endif
}

}  // namespace fedfast
