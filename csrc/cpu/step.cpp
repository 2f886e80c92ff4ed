// One pass over a client's row; with clipping a pass before it that takes the norm of the same,
// equally rounded d.
#include "cpu/direction.h"
#include "cpu/isa.h"
#include "cpu/passes.h"
#include "cpu/stream.h"
#include "pages.h"
#include "plan.h"

namespace fedfast {
namespace {

// The scalars of one client.
template <typename T>
struct Rates {
  T eta, lam, decay, momentum, shrink;
};

template <typename T>
FEDFAST_CLONES void pull(T* d, const T* w, const T* w_ref, T lam, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(w + begin, w_ref + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) d[i] = d[i] + lam * (w[i] - w_ref[i]);
  }
}

template <typename T>
FEDFAST_CLONES void descend(const T* d, const T* w, const Rates<T>& r, T* out, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(w + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i)
      out[i] = w[i] - r.eta * (r.shrink * d[i] + r.decay * w[i]);
  }
}

// `descend` along one term without a strip between: plain SGD moves nothing but w and g.
template <typename T>
FEDFAST_CLONES void descend_along(const T* g, T c, const T* w, const Rates<T>& r, T* out,
                                  int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(g + begin, w + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      const T d = c * g[i];
      out[i] = w[i] - r.eta * (r.shrink * d + r.decay * w[i]);
    }
  }
}

template <typename T>
FEDFAST_CLONES void descend_momentum(const T* d, const T* w, const Rates<T>& r, T* m, T* out,
                                     int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(w + begin, m + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      const T x = w[i];
      const T v = r.momentum * m[i] + (r.shrink * d[i] + r.decay * x);
      m[i] = v;
      out[i] = x - r.eta * v;
    }
  }
}

template <typename T>
FEDFAST_CLONES void descend_nesterov(const T* d, const T* w, const Rates<T>& r, T* m, T* out,
                                     int64_t n) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    fetch_ahead(w + begin, m + begin, out + begin);
    const int64_t end = std::min(begin + kChunk, n);
    FEDFAST_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      const T x = w[i];
      const T v = r.shrink * d[i] + r.decay * x;
      const T next = r.momentum * m[i] + v;
      m[i] = next;
      out[i] = x - r.eta * (v + r.momentum * next);
    }
  }
}

// d on one strip of client k.
template <typename T>
void correct(const Step<T>& p, const Direction<T>& direction, int64_t k, int64_t i, int64_t n,
             T* d) {
  combine(direction, i, n, d);
  if (p.w_ref) pull(d, p.w.row(k) + i, p.w_ref.row(k) + i, p.lam[k], n);
}

template <typename T>
double block_squares(const Step<T>& p, int64_t k, const Piece& piece) {
  const Direction<T> direction(p.terms, k);
  alignas(64) T d[kStrip];
  double sum = 0;
  strips(piece.start, piece.stop, [&](int64_t i, int64_t n) {
    correct(p, direction, k, i, n, d);
    sum += sum_squares(d, n);
  });
  return sum;
}

// `out` past the caches: nobody reads it soon, and what it held is not fetched.
template <typename T>
void stream_block(const Step<T>& p, int64_t k, const Piece& piece, const Rates<T>& rates) {
  const Direction<T> direction(p.terms, k);
  alignas(64) T d[kStrip], next[kStrip];
  strips(piece.start, piece.stop, [&](int64_t i, int64_t n) {
    correct(p, direction, k, i, n, d);
    descend(d, p.w.row(k) + i, rates, next, n);
    stream(next, n, p.out.row(k) + i);
  });
}

template <typename T>
void apply_block(const Step<T>& p, int64_t k, const Piece& piece, T shrink, bool past) {
  const Direction<T> direction(p.terms, k);
  const Rates<T> rates{p.eta[k], p.lam[k], p.weight_decay[k], p.momentum[k], shrink};
  if (past) return stream_block(p, k, piece, rates);
  if (p.terms.count == 1 && !p.w_ref && !p.m) {
    const int64_t i = piece.start, n = piece.stop - i;
    return descend_along(direction.d[0] + i, direction.c[0], p.w.row(k) + i, rates,
                         p.out.row(k) + i, n);
  }
  const auto descend_with_m = p.nesterov ? descend_nesterov<T> : descend_momentum<T>;
  alignas(64) T d[kStrip];
  strips(piece.start, piece.stop, [&](int64_t i, int64_t n) {
    correct(p, direction, k, i, n, d);
    const T* w = p.w.row(k) + i;
    T* out = p.out.row(k) + i;
    if (p.m) {
      descend_with_m(d, w, rates, p.m.row(k) + i, out, n);
    } else {
      descend(d, w, rates, out, n);
    }
  });
}

// min(1, clip / (norm + 1e-6)); NaN stays NaN, as torch.clamp has it.
inline double shrink_to(double clip, double norm) {
  const double ratio = clip / (norm + 1e-6);
  return ratio > 1 ? 1 : ratio;
}

// Whether client k's new row, one of a table that it keeps, is written past the caches: if the
// table's pages are there. Pages that are not are made; this leaves them in the caches, all zeros.
template <typename T>
bool goes_past(int64_t size, const Step<T>& p, int64_t k) {
  const int64_t bytes = size * int64_t{sizeof(T)};
  if (!p.out.places || p.m || bytes < kLeastStreamed) return false;
  T* to = p.out.row(k);
  bool read = to == p.w.row(k);
  for (int j = 0; j < p.terms.count; ++j) read = read || to == p.terms.d[j].row(k);
  if (read || !can_stream(to)) return false;
  if (is_touched(to + size / 2)) return true;
  touch(to, bytes);
  return false;
}

}  // namespace

template <typename T>
void step(const Shape& shape, const Step<T>& p) {
  const std::vector<Piece> pieces = cut_row(shape.size);
  if (p.clip_norm == nullptr) {
    std::vector<char> past(shape.clients);
    for (int64_t k = 0; k < shape.clients; ++k) past[k] = goes_past(shape.size, p, k);
    return each_piece(shape, pieces, [&](int64_t k, const Piece& piece) {
      apply_block(p, k, piece, T{1}, past[k]);
      if (past[k]) streamed();
    });
  }
  norm_then_apply(
      shape, pieces, [&](int64_t k, const Piece& piece) { return block_squares(p, k, piece); },
      [&](int64_t k, const Piece& piece, double norm) {
        apply_block(p, k, piece, static_cast<T>(shrink_to(p.clip_norm[k], norm)), false);
      });
}

template <typename T>
bool describe(int64_t size, const Step<T>& p, RowSum& to) {
  const bool sum = p.eta[0] == -1 && p.weight_decay[0] == 0 && !p.w_ref && !p.m && !p.clip_norm;
  if (!sum || p.terms.count > RowSum::kMost) return false;
  to = {reinterpret_cast<std::uintptr_t>(p.out.row(0)), size * int64_t{sizeof(T)}, sizeof(T)};
  to.past = goes_past(size, p, 0);
  to.base = p.w.row(0);
  to.count = p.terms.count;
  for (int j = 0; j < to.count; ++j) {
    to.d[j] = p.terms.d[j].row(0);
    to.c[j] = p.terms.c[j][0];
  }
  return true;
}

template void step(const Shape&, const Step<float>&);
template void step(const Shape&, const Step<double>&);
template bool describe(int64_t, const Step<float>&, RowSum&);
template bool describe(int64_t, const Step<double>&, RowSum&);

}  // namespace fedfast
