// Which instructions a loop may use, chosen when the module is loaded, and how a loop walks memory.
#pragma once

#include <algorithm>
#include <cstdint>

// Contraction is off (see setup.py), so every clone gives the same bits. Sanitizers cannot run the
// loader's resolvers.
#if defined(__x86_64__) && defined(__ELF__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__) && !defined(FEDFAST_ONE_ISA)
#define FEDFAST_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FEDFAST_CLONES
#endif

// An operand may be the output itself, never the output shifted: no iteration waits for another.
#if defined(__clang__)
#define FEDFAST_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FEDFAST_INDEPENDENT _Pragma("GCC ivdep")
#else
#define FEDFAST_INDEPENDENT
#endif

// Over the lanes of a sum: keeps them in vector registers, where unrolling would leave scalars.
#define FEDFAST_LANES _Pragma("omp simd")

#if defined(__GNUC__)
#define FEDFAST_INLINE inline __attribute__((always_inline))
#else
#define FEDFAST_INLINE inline
#endif

namespace fedfast {

constexpr int64_t kChunk = 64;         // elements between two rounds of fetching ahead
constexpr int64_t kAheadBytes = 4096;  // a page: where the hardware's own prefetcher stops
constexpr int64_t kLineBytes = 64;

// Asks for the cache lines of n elements, into the second-level cache: requests to the first would
// occupy the few line buffers a core has. Past a row's end this is harmless.
template <typename T>
FEDFAST_INLINE void fetch(const T* row, int64_t n) {
#if defined(__GNUC__)
  const char* line = reinterpret_cast<const char*>(row);
  for (int64_t b = 0; b < n * int64_t{sizeof(T)}; b += kLineBytes)
    __builtin_prefetch(line + b, 0, 2);
#endif
}

// What the chunk one page further on will need of each row.
template <typename... T>
FEDFAST_INLINE void fetch_ahead(const T*... rows) {
  (fetch(rows + kAheadBytes / int64_t{sizeof(T)}, kChunk), ...);
}

}  // namespace fedfast
