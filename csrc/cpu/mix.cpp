#include "cpu/isa.h"
#include "cpu/passes.h"

namespace fedfast {
namespace {

template <typename T>
FEDFAST_CLONES void mix_block(const T* x, const T* y, T a, T b, T* out, int64_t n) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) out[i] = a * x[i] + b * y[i];
}

}  // namespace

template <typename T>
void mix(const Shape& shape, const Mix<T>& p) {
  const std::vector<Piece> pieces = cut_row(shape.size);
  each_piece(shape, {0, shape.clients}, pieces.size(), false, [&](int64_t k, int64_t piece) {
    const auto [i, stop, segment] = pieces[piece];
    mix_block(p.x.row(k) + i, p.y.row(k) + i, p.a[k], p.b[k], p.out.row(k) + i, stop - i);
  });
}

template void mix(const Shape&, const Mix<float>&);
template void mix(const Shape&, const Mix<double>&);

}  // namespace fedfast
