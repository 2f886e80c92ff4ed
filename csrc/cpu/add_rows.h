// The gradient of a bias.
#pragma once

#include <cstdint>

namespace fedfast {

// out[o] = beta base[o] + alpha sum_b d[b, o], rows added in order; base is not read where beta is
// 0.
template <typename T>
void add_rows(const T* d, int64_t rows, int64_t columns, T alpha, T beta, const T* base, T* out);

}  // namespace fedfast
