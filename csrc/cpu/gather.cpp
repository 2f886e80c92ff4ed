#include <atomic>
#include <cstring>
#include <vector>

#include "cpu/parallel.h"
#include "layers.h"

namespace fedfast {
namespace {

constexpr int kLevels = 256;  // of a byte

// Calls copy(sample, k, b) for every row in range.
template <typename Copy>
bool each_row(int64_t clients, int threads, const Gather& p, const Copy& copy) {
  std::atomic<bool> fine{true};
  const int64_t tasks = clients * p.batch, elements = tasks * p.channels * p.pixels;
  parallel(worth(threads, tasks, elements), tasks, [&](int64_t task, int64_t last) {
    for (; task < last; ++task) {
      const int64_t k = task / p.batch, b = task % p.batch, sample = p.rows.row(k)[b];
      0 <= sample&& sample < p.samples ? copy(sample, k, b) : fine.store(false);
    }
  });
  return fine;
}

// What each byte becomes in each channel, computed as torch does.
template <typename T>
std::vector<T> levels(int64_t channels, const T* mean, const T* std) {
  std::vector<T> table(channels * kLevels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int v = 0; v < kLevels; ++v) {
      const T grey = static_cast<T>(v) / T{255};
      table[c * kLevels + v] = mean == nullptr ? grey : (grey - mean[c]) / std[c];
    }
  }
  return table;
}

}  // namespace

bool gather_bytes(int64_t clients, int threads, const Gather& p, const char* bank,
                  int64_t element_bytes, Bank<char> out) {
  const int64_t bytes = p.channels * p.pixels * element_bytes;
  return each_row(clients, threads, p, [&](int64_t sample, int64_t k, int64_t b) {
    std::memcpy(out.row(k) + b * bytes, bank + sample * bytes, bytes);
  });
}

template <typename T>
bool gather_normalised(int64_t clients, int threads, const Gather& p, const uint8_t* bank,
                       const T* mean, const T* std, Bank<T> out) {
  const std::vector<T> table = levels(p.channels, mean, std);
  const int64_t size = p.channels * p.pixels;
  return each_row(clients, threads, p, [&](int64_t sample, int64_t k, int64_t b) {
    for (int64_t c = 0; c < p.channels; ++c) {
      const T* level = table.data() + c * kLevels;
      const uint8_t* from = bank + sample * size + c * p.pixels;
      T* to = out.row(k) + b * size + c * p.pixels;
      for (int64_t i = 0; i < p.pixels; ++i) to[i] = level[from[i]];
    }
  });
}

template bool gather_normalised(int64_t, int, const Gather&, const uint8_t*, const float*,
                                const float*, Bank<float>);
template bool gather_normalised(int64_t, int, const Gather&, const uint8_t*, const double*,
                                const double*, Bank<double>);

}  // namespace fedfast
