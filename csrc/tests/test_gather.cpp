#include "tests/layers.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kSamples = 11, kBatch = 7;

struct Picked {
  std::vector<int64_t> rows;

  explicit Picked(int64_t clients) : rows(clients * kBatch) {
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = i * 5 % kSamples;
  }
  Gather gather(int64_t channels, int64_t pixels) const {
    return {kSamples, kBatch, channels, pixels, {rows.data(), kBatch}};
  }
};

template <typename T>
void as_they_are(int64_t pixels, int64_t clients, int threads) {
  Picked picked(clients);
  Memory<T> bank(kSamples * pixels, 1);
  Rows<T> out = block<T>(clients, kBatch * pixels, 2);
  const auto run = [&] {
    return gather_bytes(
        clients, threads, picked.gather(1, pixels), reinterpret_cast<const char*>(bank.data()),
        sizeof(T),
        {reinterpret_cast<char*>(out.bank().data), out.stride * static_cast<int64_t>(sizeof(T))});
  };
  expect("in range", run(), 1, 0);
  for (int64_t k = 0; k < clients; ++k) {
    for (int64_t i = 0; i < kBatch * pixels; ++i) {
      const int64_t row = picked.rows[k * kBatch + i / pixels];
      expect("gather", out.at(k, i), bank[row * pixels + i % pixels], 0);
    }
  }
  for (int64_t outside : {int64_t{-1}, kSamples}) {
    picked.rows.back() = outside;
    expect("out of range", run(), 0, 0);
  }
}

template <typename T>
void normalised(int64_t pixels, int64_t clients, int threads) {
  constexpr int64_t channels = 3;
  const Picked picked(clients);
  const int64_t size = channels * pixels;
  std::vector<uint8_t> bank(kSamples * size);
  for (size_t i = 0; i < bank.size(); ++i) bank[i] = static_cast<uint8_t>(i * 37);
  const T mean[] = {0.25, 0.5, 0.75}, std[] = {0.5, 0.25, 2};
  Rows<T> out = block<T>(clients, kBatch * size, 3);
  const Gather p = picked.gather(channels, pixels);
  expect("in range", gather_normalised(clients, threads, p, bank.data(), mean, std, out.bank()), 1,
         0);
  expect_block("normalised", out, clients, kBatch * size, [&](int64_t k, int64_t i) {
    const int64_t row = picked.rows[k * kBatch + i / size], c = i % size / pixels;
    return (bank[row * size + i % size] / 255.0 - mean[c]) / std[c];
  });
}

}  // namespace

void test_gather() {
  for (int64_t pixels : {1, 17, 300}) {
    each_crowd([&](int64_t clients, int threads) {
      as_they_are<float>(pixels, clients, threads), as_they_are<double>(pixels, clients, threads);
      normalised<float>(pixels, clients, threads), normalised<double>(pixels, clients, threads);
    });
  }
}

}  // namespace fedfast::tests
