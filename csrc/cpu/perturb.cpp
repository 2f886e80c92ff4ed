// A norm pass over the (stretched) direction, then an apply pass; with the norm given, the second
// alone. A direction of several terms is left in `out` by the first pass, where that is no memory
// of w's or of a term's: the second then reads one row for all of them.
#include <cmath>

#include "cpu/direction.h"
#include "cpu/isa.h"
#include "cpu/passes.h"

namespace fedfast {
namespace {

// a *= t with t = |w| + eta.
template <typename T>
FEDFAST_CLONES void stretch_once(T* a, const T* w, T eta, int64_t n) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) a[i] = (std::abs(w[i]) + eta) * a[i];
}

// a *= t^2, rounded as (t t) a.
template <typename T>
FEDFAST_CLONES void stretch_twice(T* a, const T* w, T eta, int64_t n) {
  FEDFAST_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const T t = std::abs(w[i]) + eta;
    a[i] = t * t * a[i];
  }
}

template <typename T>
FEDFAST_CLONES void ascend(const T* a, const T* w, T scale, T* out, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(w + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) out[i] = w[i] + scale * a[i];
  }
}

template <typename T>
bool stretched(const Perturb<T>& p, const Piece& piece) {
  if (!p.adaptive || p.segments.count == 0) return p.adaptive.has_value();
  return piece.segment != kPadding && p.segments.is_weight[piece.segment];
}

// Terms from which on a direction is worth being kept.
constexpr int kKept = 2;

template <typename T>
bool keeps(const Perturb<T>& p, int64_t k) {
  if (p.adaptive || p.terms.count < kKept || p.out.row(k) == p.w.row(k)) return false;
  for (int j = 0; j < p.terms.count; ++j) {
    if (p.out.row(k) == p.terms.d[j].row(k)) return false;
  }
  return true;
}

// The squares of a piece of the direction, which is left in `out`.
template <typename T>
double kept_squares(const Perturb<T>& p, int64_t k, const Piece& piece) {
  const Direction<T> direction(p.terms, k);
  double sum = 0;
  strips(piece.start, piece.stop, [&](int64_t i, int64_t n) {
    T* a = p.out.row(k) + i;
    combine(direction, i, n, a);
    sum += sum_squares(a, n);
  });
  return sum;
}

template <typename T>
double block_squares(const Perturb<T>& p, int64_t k, const Piece& piece) {
  if (keeps(p, k)) return kept_squares(p, k, piece);
  const Direction<T> direction(p.terms, k);
  const bool stretch = stretched(p, piece);
  alignas(64) T a[kStrip];
  double sum = 0;
  strips(piece.start, piece.stop, [&](int64_t i, int64_t n) {
    combine(direction, i, n, a);
    if (stretch) stretch_once(a, p.w.row(k) + i, *p.adaptive, n);
    sum += sum_squares(a, n);
  });
  return sum;
}

// rho / (norm + eps) - alpha, in float64 until the end; padding between layers is not moved.
template <typename T>
T scale_of(const Perturb<T>& p, int64_t k, const Piece& piece, double norm) {
  if (p.layers > 1 && piece.segment == kPadding) return 0;
  const double rho = p.rho[k * p.layers + (p.layers > 1 ? piece.segment : 0)];
  return static_cast<T>(rho / (norm + p.eps) - static_cast<double>(p.alpha[k]));
}

// From a direction that lies in `out`.
template <typename T>
void apply_kept(const Perturb<T>& p, int64_t k, const Piece& piece, double norm) {
  T* out = p.out.row(k) + piece.start;
  ascend(out, p.w.row(k) + piece.start, scale_of(p, k, piece, norm), out, piece.stop - piece.start);
}

template <typename T>
void apply_block(const Perturb<T>& p, int64_t k, const Piece& piece, double norm) {
  const Direction<T> direction(p.terms, k);
  const bool stretch = stretched(p, piece);
  const T scale = scale_of(p, k, piece, norm);
  alignas(64) T a[kStrip];
  strips(piece.start, piece.stop, [&](int64_t i, int64_t n) {
    const T* w = p.w.row(k) + i;
    combine(direction, i, n, a);
    if (stretch) stretch_twice(a, w, *p.adaptive, n);
    ascend(a, w, scale, p.out.row(k) + i, n);
  });
}

}  // namespace

template <typename T>
void perturb(const Shape& shape, const Perturb<T>& p) {
  const bool layered = p.segments.count > 0 && (p.layers > 1 || p.adaptive);
  const auto pieces = layered ? cut_segments(p.segments, shape.size) : cut_row(shape.size);
  const auto apply = [&](int64_t k, const Piece& piece, double norm) {
    apply_block(p, k, piece, norm);
  };
  if (p.norm != nullptr) {
    return each_piece(shape, pieces,
                      [&](int64_t k, const Piece& piece) { apply(k, piece, p.norm[k]); });
  }
  norm_then_apply(
      shape, pieces, [&](int64_t k, const Piece& piece) { return block_squares(p, k, piece); },
      [&](int64_t k, const Piece& piece, double norm) {
        keeps(p, k) ? apply_kept(p, k, piece, norm) : apply_block(p, k, piece, norm);
      });
}

template void perturb(const Shape&, const Perturb<float>&);
template void perturb(const Shape&, const Perturb<double>&);

}  // namespace fedfast
