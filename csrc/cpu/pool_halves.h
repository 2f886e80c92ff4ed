// Max pooling over 2 x 2 windows side by side, the commonest by far, without a pass per tap.
#pragma once

#include "images.h"

namespace fedfast {

// Whether windows are these, on an even width.
inline bool halves(const Window& w) {
  return w.kh == 2 && w.kw == 2 && w.sh == 2 && w.sw == 2 && w.ph == 0 && w.pw == 0 && w.dh == 1 &&
         w.dw == 1 && w.width == 2 * w.out_width;
}

// out and the places of the maxima; of equals the first, of NaNs the last, as in torch.
template <typename T>
void max_halves(const Window& w, const T* x, T* out, int32_t* where);

// dx = dout at the maxima, 0 elsewhere.
template <typename T>
void max_halves_backward(const Window& w, const T* dout, const int32_t* where, T* dx);

}  // namespace fedfast
