#include "tests/naive.h"

namespace fedfast::tests {
namespace {

constexpr int64_t kClients = 3;

// A convolution, and windows over its results: 2 x 2 on rows of every length, odd sides, others.
struct Pooled {
  ConvShape conv;
  int64_t kh, kw;
};
const Pooled kPooled[] = {
    {{5, 1, 6, 1, window_of(36, 40, 5, 5, 1, 2)}, 2, 2},
    {{3, 5, 20, 1, window_of(9, 18, 3, 3, 1, 0)}, 2, 2},
    {{3, 20, 70, 1, window_of(9, 7, 3, 3, 1, 1)}, 2, 2},
    {{7, 4, 12, 2, window_of(12, 12, 5, 5, 1, 0)}, 2, 2},
    {{2, 3, 5, 1, window_of(8, 11, 2, 3, 1, 0)}, 3, 2},
};

// The same numbers by `conv` and `pool`, to the bit.
template <typename T>
void pooled(const Pooled& p, int threads) {
  const ConvShape& s = p.conv;
  Window w = window_of(s.window.out_height, s.window.out_width, p.kh, p.kw, 1, 0);
  w.sh = p.kh, w.sw = p.kw;
  w.out_height = w.height / p.kh, w.out_width = w.width / p.kw;
  const int64_t planes = s.batch * s.outputs, in = s.batch * s.inputs * s.window.pixels();
  const int64_t weights = s.outputs * s.depth(), size = planes * w.spots();
  Rows<T> x = rows_of<T>(kClients, in, 1), weight = rows_of<T>(kClients, weights, 2);
  Rows<T> bias = rows_of<T>(kClients, s.outputs, 3), dout = rows_of<T>(kClients, size, 4);
  Rows<T> z = rows_of<T>(kClients, planes * w.pixels(), 5), dz = z;
  Rows<T> expected = rows_of<T>(kClients, size, 6), out = expected;
  Rows<T> dx = x, dweight = weight, dbias = bias, same_dx = x, same_dw = weight, same_db = bias;
  Memory<T> alpha{kClients, 8}, beta{kClients, 9};
  std::vector<int32_t> places(kClients * size);
  std::vector<uint8_t> taps(kClients * size);
  const Bank<int32_t> at{places.data(), size};
  conv(kClients, threads, Conv<T>{s, Act::relu, x.read(), weight.read(), bias.read(), z.bank()});
  pool(kClients, threads, Pool<T>{planes, w, PoolKind::max, true, z.read(), expected.bank(), at});
  pool_backward(kClients, threads,
                PoolBackward<T>{
                    planes, w, PoolKind::max, true, dout.read(), {places.data(), size}, dz.bank()});
  conv_backward(kClients, threads,
                ConvBackward<T>{s, Act::relu, x.read(), weight.read(), z.read(), dz.bank(),
                                same_dx.bank(), same_dw.bank(), same_db.bank(), weight.read(),
                                bias.read(), alpha.data(), beta.data()});
  conv(kClients, threads,
       Conv<T>{
           s, Act::relu, x.read(), weight.read(), bias.read(), out.bank(), w, {taps.data(), size}});
  conv_backward(kClients, threads,
                ConvBackward<T>{s,
                                Act::relu,
                                x.read(),
                                weight.read(),
                                out.read(),
                                dout.bank(),
                                dx.bank(),
                                dweight.bank(),
                                dbias.bank(),
                                weight.read(),
                                bias.read(),
                                alpha.data(),
                                beta.data(),
                                w,
                                {taps.data(), size}});
  for (int64_t k = 0; k < kClients; ++k) {
    for (int64_t i = 0; i < size; ++i) expect("maxima", out.at(k, i), expected.at(k, i), 0);
    for (int64_t i = 0; i < in; ++i) expect("pooled dx", dx.at(k, i), same_dx.at(k, i), 0);
    for (int64_t i = 0; i < weights; ++i) {
      expect("pooled dweight", dweight.at(k, i), same_dw.at(k, i), 0);
    }
    for (int64_t i = 0; i < s.outputs; ++i) {
      expect("pooled dbias", dbias.at(k, i), same_db.at(k, i), 0);
    }
  }
}

}  // namespace

void test_conv_pool() {
  for (const Pooled& layer : kPooled) {
    for (int threads : kThreads) pooled<float>(layer, threads), pooled<double>(layer, threads);
  }
}

}  // namespace fedfast::tests
