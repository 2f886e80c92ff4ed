// The native operations: what each takes and in which shape. Their meaning is
// kernels/reference/rows.py.
//
// Letters: K clients, S elements of a row, L segments, J terms. Results depend neither on
// `threads`, nor on K, nor on how rows are aligned or strided: norms and sums are added over fixed
// blocks of a row in a fixed order.
#pragma once

#include <cstdint>
#include <optional>

namespace fedfast {

struct RowSum;

constexpr int kMaxTerms = 8;
constexpr int kStatColumns = 5;  // XX, XY, YY, ABS_XY, NONFINITE

// [K, S]: row k starts `stride` elements after row k - 1; stride 0 is one row shared by all
// clients.
template <typename T>
struct Bank {
  T* data = nullptr;
  int64_t stride = 0;

  T* row(int64_t k) const { return data + k * stride; }
  explicit operator bool() const { return data != nullptr; }
};

// A bank, or rows of a table [n, S]: row k is the table's row places[k].
template <typename T>
struct Placed {
  T* data = nullptr;
  int64_t stride = 0;
  const int64_t* places = nullptr;  // [K] or none

  Placed() = default;
  Placed(const Bank<T>& bank) : data(bank.data), stride(bank.stride) {}
  T* row(int64_t k) const { return data + (places ? places[k] : k) * stride; }
  explicit operator bool() const { return data != nullptr; }
};

// a = sum_j c_j d_j, added in the order given.
template <typename T>
struct Terms {
  int count = 0;                 // J, 1 .. kMaxTerms
  Placed<const T> d[kMaxTerms];  // [K, S] each
  const T* c[kMaxTerms] = {};    // [K] each
};

// Ascending, disjoint pieces of a row; what lies between them is padding.
struct Segments {
  int64_t count = 0;                // L; 0 when the operation does not work layer by layer
  const int32_t* offset = nullptr;  // [L]
  const int32_t* length = nullptr;  // [L]
  const bool* is_weight = nullptr;  // [L]
};

struct Shape {
  int64_t clients = 0;  // K
  int64_t size = 0;     // S
  int threads = 1;
};

// out = w + (rho / (|t a| + eps) - alpha) t^2 a, with t = |w| + adaptive on weights where that is
// given, else 1.
template <typename T>
struct Perturb {
  Bank<const T> w;           // [K, S]
  Terms<T> terms;            // a
  const T* rho = nullptr;    // [K, layers]
  int64_t layers = 1;        // 1, or L: then padding is not moved
  const T* alpha = nullptr;  // [K]
  double eps = 0;
  std::optional<T> adaptive;
  const T* norm = nullptr;  // [K], |t a| if known
  Segments segments;
  Bank<T> out;  // [K, S]; may be w or a term
};

// d = sum_j c_j d_j + lam (w - w_ref), shrunk to norm clip; v = d + decay w, momentum; out = w -
// eta v.
template <typename T>
struct Step {
  Placed<const T> w;                // [K, S]
  Terms<T> terms;                   // gradient and corrections
  const T* eta = nullptr;           // [K]
  Bank<const T> w_ref;              // [K, S] or none
  const T* lam = nullptr;           // [K]
  const T* weight_decay = nullptr;  // [K]
  const T* clip_norm = nullptr;     // [K] or none
  const T* momentum = nullptr;      // [K]
  bool nesterov = false;
  Bank<T> m;      // [K, S] or none, updated in place
  Placed<T> out;  // [K, S]; may be w, m or a term
};

// Sums over segments of a = x - x_ref and b = y - y_ref, formed in float64.
template <typename T>
struct Stats {
  Bank<const T> x, y, x_ref, y_ref;  // [K, S]; all but x may be absent
  Segments segments;
  double* out = nullptr;  // [K, L, kStatColumns]
};

enum class Rule { none, average, momentum, adam, yogi, adagrad };

struct Server {
  Rule rule = Rule::none;
  double lr = 0, beta1 = 0, beta2 = 0, tau = 0;
};

// acc (+)= sum_k weights_k (rows_k - base_k) in the order of kernels/summation.py; then out = w +
// server rule(acc).
template <typename T>
struct Aggregate {
  Bank<const T> rows, base;        // [K, S]
  const T* weights = nullptr;      // [K]
  double* acc = nullptr;           // [S], the lowest node on the stack
  Bank<double> nodes;              // [n, S], those above it between two chunks; may be absent
  const int32_t* order = nullptr;  // [K + 2]: nodes before; each client's; nodes afterwards
  Server server;
  const T* w = nullptr;          // [S], with a rule
  T *m = nullptr, *v = nullptr;  // [S], moments the rule uses, updated in place
  T* out = nullptr;              // [S], may be w
  double* squares = nullptr;     // [K + 1]: |rows_k - base_k|^2, then |acc|^2 with a rule
};

// out = a x + b y.
template <typename T>
struct Mix {
  Bank<const T> x, y;                  // [K, S]
  const T *a = nullptr, *b = nullptr;  // [K]
  Bank<T> out;                         // [K, S]; may be x or y
};

// out[l, i, j] = product of the updates rows_i - base_i and rows_j - base_j over segment l.
template <typename T>
struct Gram {
  Bank<const T> rows, base;  // [K, S]; base may be absent
  Segments segments;
  double* out = nullptr;  // [L, K, K]
};

// out[k, l] = mean over segment l of (n(x_k) - n(y_k))^2; n(v) = (v - min v) / (max v - min v)
// there when `normalize`, else v. NaN where that is not finite.
template <typename T>
struct Sensitivity {
  Bank<const T> x, y;  // [K, S]
  Segments segments;
  bool normalize = false;
  double* out = nullptr;  // [K, L]
};

// Each is compiled for float and double.
template <typename T>
void perturb(const Shape& shape, const Perturb<T>& p);
template <typename T>
void step(const Shape& shape, const Step<T>& p);
// The sum that the first client's row of `size` elements is after a step by -1 along few terms;
// false for other steps. Both are equal to the bit where the base is finite.
template <typename T>
bool describe(int64_t size, const Step<T>& p, RowSum& to);
template <typename T>
void stats(const Shape& shape, const Stats<T>& p);
template <typename T>
void aggregate(const Shape& shape, const Aggregate<T>& p);
template <typename T>
void mix(const Shape& shape, const Mix<T>& p);
template <typename T>
void gram(const Shape& shape, const Gram<T>& p);
template <typename T>
void sensitivity(const Shape& shape, const Sensitivity<T>& p);

}  // namespace fedfast
