// Stores past the caches: of rows that are written once and not read again soon. What a line held
// is not fetched for them, and what the caches hold stays.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace fedfast {

constexpr int64_t kLeastStreamed = 1 << 16;  // bytes of a row; shorter ones are read sooner

// Whether `stream` may begin there.
inline bool can_stream(const void* to) { return reinterpret_cast<std::uintptr_t>(to) % 16 == 0; }

// to[i] = from[i] for i < n, seen by other threads after `streamed`.
template <typename T>
void stream(const T* from, int64_t n, T* to) {
  int64_t i = 0;
#ifdef __SSE2__
  constexpr int64_t kLanes = 16 / sizeof(T);
  for (; i + kLanes <= n; i += kLanes) {
    const auto* at = reinterpret_cast<const __m128i*>(from + i);
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(at));
  }
#endif
  std::copy(from + i, from + n, to + i);
}

inline void streamed() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

}  // namespace fedfast
