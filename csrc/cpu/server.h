// The server's step on a block of columns.
#pragma once

#include "fedfast.h"

namespace fedfast {

// Columns of the server's rows at the start of a block; moments a rule does not use are null.
template <typename T>
struct ServerRows {
  const T* w;
  T *m, *v, *out;
};

// out = w + rule(mean) for n columns; moments are stored in T and used as stored.
template <typename T>
void serve(const Server& server, const double* mean, const ServerRows<T>& rows, int64_t n);

}  // namespace fedfast
