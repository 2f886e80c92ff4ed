#include "cpu/isa.h"
#include "cpu/passes.h"

namespace fedfast {
namespace {

template <typename T>
FEDFAST_CLONES void mix_block(const T* x, const T* y, T a, T b, T* out, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(x + begin, y + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) out[i] = a * x[i] + b * y[i];
  }
}

}  // namespace

template <typename T>
void mix(const Shape& shape, const Mix<T>& p) {
  const std::vector<Piece> pieces = cut_row(shape.size);
  each_piece(shape, pieces, [&](int64_t k, const Piece& piece) {
    const int64_t i = piece.start;
    mix_block(p.x.row(k) + i, p.y.row(k) + i, p.a[k], p.b[k], p.out.row(k) + i, piece.stop - i);
  });
}

template void mix(const Shape&, const Mix<float>&);
template void mix(const Shape&, const Mix<double>&);

}  // namespace fedfast
