#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "layers.h"

namespace fedfast {
namespace {

// Samples of a large bank lie anywhere in memory: the beginning of each is fetched while those
// before it are copied. What follows is then read in order, which the machine fetches by itself.
constexpr int64_t kAhead = 4, kLine = 64, kBegin = 16 * kLine;

// Calls copy(sample, k, b) for every row in range; samples lie `bytes` apart from `bank` on.
template <typename Copy>
bool each_row(int64_t clients, int threads, const Gather& p, const void* bank, int64_t bytes,
              const Copy& copy) {
  const auto fetch = [&](int64_t task) {
    const int64_t sample = p.rows.row(task / p.batch)[task % p.batch];
    if (sample < 0 || sample >= p.samples) return;
    const char* from = static_cast<const char*>(bank) + sample * bytes;
    for (int64_t at = 0; at < std::min(bytes, kBegin); at += kLine) __builtin_prefetch(from + at);
  };
  std::atomic<bool> fine{true};
  const int64_t tasks = clients * p.batch, elements = tasks * p.size();
  parallel(worth(threads, tasks, elements), tasks, [&](int64_t task, int64_t last) {
    for (int64_t first = task; first < std::min(task + kAhead, last); ++first) fetch(first);
    for (; task < last; ++task) {
      if (task + kAhead < last) fetch(task + kAhead);
      const int64_t k = task / p.batch, b = task % p.batch, sample = p.rows.row(k)[b];
      0 <= sample&& sample < p.samples ? copy(sample, k, b) : fine.store(false);
    }
  });
  return fine;
}

template <typename T>
FEDFAST_CLONES void run(const uint8_t* from, T scale, T shift, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = scale * static_cast<T>(from[i]) + shift;
}

// The same from right to left: `from` is the first pixel read.
template <typename T>
FEDFAST_CLONES void run_back(const uint8_t* from, T scale, T shift, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = scale * static_cast<T>(from[-i]) + shift;
}

// One channel's constants.
template <typename T>
struct Channel {
  T scale, shift, margin;
};

// Output pixels [first, last) of a row lie inside of the image, their sources begin at `source`.
struct Window {
  int64_t first, last, source;
  bool flipped;

  Window(int64_t width, int64_t offset, bool flip) : flipped(flip) {
    const int64_t begin = std::clamp<int64_t>(-offset, 0, width);
    const int64_t end = std::clamp<int64_t>(width - offset, begin, width);
    first = flip ? width - end : begin;
    last = flip ? width - begin : end;
    source = flip ? end - 1 + offset : begin + offset;
  }
};

template <typename T>
void row_of(const uint8_t* from, const Channel<T>& channel, const Window& window, int64_t width,
            T* to) {
  std::fill(to, to + window.first, channel.margin);
  const int64_t inside = window.last - window.first;
  (window.flipped ? run_back<T> : run<T>)(from + window.source, channel.scale, channel.shift,
                                          inside, to + window.first);
  std::fill(to + window.last, to + width, channel.margin);
}

// One channel [height, width] of an image, seen from `rise` rows below.
template <typename T>
void plane(const uint8_t* from, const Channel<T>& channel, const Window& window, int64_t rise,
           const Gather& p, T* to) {
  for (int64_t y = 0; y < p.height; ++y, to += p.width) {
    const int64_t source = y + rise;
    if (0 <= source && source < p.height) {
      row_of(from + source * p.width, channel, window, p.width, to);
    } else {
      std::fill(to, to + p.width, channel.margin);
    }
  }
}

}  // namespace

bool gather_bytes(int64_t clients, int threads, const Gather& p, const char* bank,
                  int64_t element_bytes, Bank<char> out) {
  const int64_t bytes = p.size() * element_bytes;
  return each_row(clients, threads, p, bank, bytes, [&](int64_t sample, int64_t k, int64_t b) {
    std::memcpy(out.row(k) + b * bytes, bank + sample * bytes, bytes);
  });
}

template <typename T>
bool gather_images(int64_t clients, int threads, const Gather& p, const Look<T>& look,
                   const uint8_t* bank, Bank<T> out) {
  const int64_t pixels = p.height * p.width;
  return each_row(clients, threads, p, bank, p.size(), [&](int64_t sample, int64_t k, int64_t b) {
    const int64_t slot = k * p.batch + b;
    const bool still = look.offset == nullptr;
    const int64_t rise = still ? 0 : look.offset[2 * slot];
    const Window window(p.width, still ? 0 : look.offset[2 * slot + 1],
                        !still && look.flip[slot] != 0);
    for (int64_t c = 0; c < p.channels; ++c) {
      const Channel<T> channel{look.scale[c], look.shift[c], look.margin[c]};
      const uint8_t* from = bank + sample * p.size() + c * pixels;
      plane(from, channel, window, rise, p, out.row(k) + b * p.size() + c * pixels);
    }
  });
}

template bool gather_images(int64_t, int, const Gather&, const Look<float>&, const uint8_t*,
                            Bank<float>);
template bool gather_images(int64_t, int, const Gather&, const Look<double>&, const uint8_t*,
                            Bank<double>);

}  // namespace fedfast
