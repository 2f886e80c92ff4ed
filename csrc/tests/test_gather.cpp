#include "tests/layers.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kSamples = 11, kBatch = 7;

struct Picked {
  std::vector<int64_t> rows;

  explicit Picked(int64_t clients) : rows(clients * kBatch) {
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = i * 5 % kSamples;
  }
  Gather gather(int64_t channels, int64_t height, int64_t width) const {
    return {kSamples, kBatch, channels, height, width, {rows.data(), kBatch}};
  }
};

template <typename T>
void as_they_are(int64_t pixels, int64_t clients, int threads) {
  Picked picked(clients);
  Memory<T> bank(kSamples * pixels, 1);
  Rows<T> out = block<T>(clients, kBatch * pixels, 2);
  const auto run = [&] {
    return gather_bytes(
        clients, threads, picked.gather(1, 1, pixels), reinterpret_cast<const char*>(bank.data()),
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

// Images of bytes, normalised; with `moves`, cropped by offsets that leave the image, and mirrored.
template <typename T>
void images(int64_t width, bool moves, int64_t clients, int threads) {
  constexpr int64_t channels = 3, height = 4;
  const Picked picked(clients);
  const int64_t plane = height * width, size = channels * plane, slots = clients * kBatch;
  std::vector<uint8_t> bank(kSamples * size), flip(slots);
  for (size_t i = 0; i < bank.size(); ++i) bank[i] = static_cast<uint8_t>(i * 37);
  std::vector<int32_t> offset(2 * slots);
  for (int64_t i = 0; i < slots; ++i) {
    offset[2 * i] = i % 5 - 2, offset[2 * i + 1] = i % 7 - 3, flip[i] = i % 3 == 0;
  }
  const T scale[] = {0.25, 0.5, 0.75}, shift[] = {0.5, -0.25, 2}, margin[] = {1, 2, 3};
  const Look<T> look{scale, shift, margin, moves ? offset.data() : nullptr,
                     moves ? flip.data() : nullptr};
  Rows<T> out = block<T>(clients, kBatch * size, 3);
  const Gather p = picked.gather(channels, height, width);
  expect("in range", gather_images(clients, threads, p, look, bank.data(), out.bank()), 1, 0);
  expect_block("images", out, clients, kBatch * size, [&](int64_t k, int64_t i) {
    const int64_t slot = k * kBatch + i / size, c = i % size / plane;
    int64_t y = i % plane / width, x = i % width;
    if (moves) {
      if (flip[slot]) x = width - 1 - x;
      y += offset[2 * slot], x += offset[2 * slot + 1];
    }
    if (y < 0 || y >= height || x < 0 || x >= width) return double(margin[c]);
    return bank[picked.rows[slot] * size + c * plane + y * width + x] * double(scale[c]) + shift[c];
  });
}

}  // namespace

void test_gather() {
  for (int64_t pixels : {1, 17, 300}) {
    each_crowd([&](int64_t clients, int threads) {
      as_they_are<float>(pixels, clients, threads), as_they_are<double>(pixels, clients, threads);
      for (bool moves : {false, true}) {
        images<float>(pixels, moves, clients, threads),
            images<double>(pixels, moves, clients, threads);
      }
    });
  }
}

}  // namespace fedfast::tests
