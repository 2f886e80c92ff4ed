// Adam on rows of S elements.
#pragma once

#include "fedfast.h"

namespace fedfast {

// d = g + decay w, unless decoupled; m, v: its moments; out = (decoupled ? (1 - eta decay) w : w) -
// eta / (1 - beta1^t) m / (sqrt v / sqrt(1 - beta2^t) + eps).
template <typename T>
struct Adam {
  Bank<const T> w, g;               // [K, S]
  Bank<T> m, v;                     // [K, S], updated in place
  const T* t = nullptr;             // [K], from 1
  const T* eta = nullptr;           // [K]
  const T* weight_decay = nullptr;  // [K]
  double beta1 = 0, beta2 = 0, eps = 0;
  bool decoupled = false;
  Bank<T> out;  // [K, S]; may be w or g
};

template <typename T>
void adam(const Shape& shape, const Adam<T>& p);

}  // namespace fedfast
