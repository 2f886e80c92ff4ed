// Activations over n elements, shared by `activation` and the layers that fuse one.
#pragma once

#include "layers.h"

namespace fedfast {

// out = act(x); out may be x.
template <typename T>
void activate(Act act, T slope, const T* x, int64_t n, T* out);

// dx = dout act'(x), from x or from out = act(x), whichever the kind needs; dx may be dout.
template <typename T>
void differentiate(Act act, T slope, const T* x, const T* out, const T* dout, int64_t n, T* dx);

}  // namespace fedfast
