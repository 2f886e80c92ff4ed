// Masks are made anew whenever they are needed: ten rounds of multiplications cost less than
// carrying them through memory.
#include "cpu/parallel.h"
#include "cpu/philox.h"
#include "sequences.h"

namespace fedfast {
namespace {

constexpr int64_t kBlocks = 64;  // of four words, made at a time

// words[4 i + j] = word j of block first + i, for kBlocks blocks.
FEDFAST_CLONES void draw(int64_t first, uint32_t layer, uint64_t key, uint32_t* words) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < kBlocks; ++i) {
    const uint64_t block = first + i;
    const Words w = philox4x32(
        {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), layer, 0}, key);
    for (int j = 0; j < 4; ++j) words[4 * i + j] = w[j];
  }
}

template <typename T>
FEDFAST_CLONES void keep(const uint32_t* words, uint64_t threshold, T scale, const T* x, int64_t n,
                         T* out) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) out[i] = words[i] < threshold ? T{0} : x[i] * scale;
}

// One draw for `span` neighbours.
template <typename T>
void keep_spans(const Dropout<T>& p, const uint32_t* words, const T* x, int64_t draws, T* out) {
  for (int64_t i = 0; i < draws; ++i, x += p.span, out += p.span) {
    const T scale = words[i] < p.threshold ? T{0} : p.scale;
    for (int64_t j = 0; j < p.span; ++j) out[j] = scale == 0 ? T{0} : x[j] * scale;
  }
}

template <typename T>
void one_client(const Dropout<T>& p, int64_t k) {
  uint32_t words[4 * kBlocks];
  const T* x = p.x.row(k);
  T* out = p.out.row(k);
  const int64_t draws = p.size / p.span;
  for (int64_t d = 0; d < draws; d += 4 * kBlocks) {
    const int64_t count = std::min(4 * kBlocks, draws - d);
    draw(d / 4, p.layer, static_cast<uint64_t>(p.seeds[k]), words);
    p.span == 1 ? keep(words, p.threshold, p.scale, x + d, count, out + d)
                : keep_spans(p, words, x + d * p.span, count, out + d * p.span);
  }
}

}  // namespace

template <typename T>
void dropout(int64_t clients, int threads, const Dropout<T>& p) {
  parallel(worth(threads, clients, clients * p.size), clients, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) one_client(p, k);
  });
}

template void dropout(int64_t, int, const Dropout<float>&);
template void dropout(int64_t, int, const Dropout<double>&);

}  // namespace fedfast
