"""Functions inside Triton kernels: exp and its relatives, activations; as `csrc/cpu/functions.h`.

Written out rather than taken from the device library: tanh has no interpreted form there, and the
hardware's float32 exp loses digits as its argument grows. float32 takes the polynomials of the
native backend, float64 the library's exp.
Source: Cephes (Moshier) for exp and tanh.
"""

from __future__ import annotations

from .common import jit, tl


@jit
def exp_down(x: tl.tensor) -> tl.tensor:
    """exp(x) for x <= 0; in float32 within 2 units in the last place, 0 where it is denormal."""
    if x.dtype == tl.float64:
        y = tl.exp(x)
    else:
        t = x * 1.44269504088896341 + 12582912.0  # 1.5 * 2^23: adding it rounds to an integer
        n = t - 12582912.0
        r = (x - n * 0.693359375) + n * 2.12194440e-4
        p = 1.9875691500e-4 * r + 1.3981999507e-3
        p = p * r + 8.3334519073e-3
        p = p * r + 4.1665795894e-2
        p = p * r + 1.6666665459e-1
        p = p * r + 5.0000001201e-1
        p = p * (r * r) + r + 1.0
        power = (t.to(tl.int32, bitcast=True) << 23) + 0x3F800000
        y = tl.where(x < -87.33, 0.0, p * power.to(tl.float32, bitcast=True))
    return y


@jit
def row_sums(
    z: tl.tensor,
    inside: tl.tensor,
    classes: tl.tensor,
    TILE: tl.constexpr,
    scale: tl.tensor | None = None,
) -> tuple[tl.tensor, ...]:
    """Of each row at the pointers z `[rows, 1]`: the largest and, float64, sum exp(z - largest).

    scale  a factor on the exponents, None for 1
    """
    top = tl.full(TILE, float("-inf"), z.dtype.element_ty)
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        here = tl.load(z + c, inside[:, None] & (c < classes), other=float("-inf"))
        top = tl.maximum(top, here)
    top = tl.max(top, axis=1)
    total = tl.zeros(TILE, tl.float64)
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        here = tl.load(z + c, inside[:, None] & (c < classes), other=float("-inf"))
        here -= tl.where(inside, top, 0.0)[:, None]
        if scale is not None:
            here *= scale
        total += exp_down(here).to(tl.float64)
    return top, tl.sum(total, axis=1)


@jit
def tanh(x: tl.tensor) -> tl.tensor:
    """A polynomial (float64: a quotient of two) near 0, where the formula would cancel."""
    z = x * x
    t = exp_down(-2.0 * tl.abs(x))
    far = (1.0 - t) / (1.0 + t)
    if x.dtype == tl.float64:
        p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z
        q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z
        bend = (p - 1.61468768441708447952e3) / (q + 4.84406305325125486048e3)
    else:
        p = (-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2
        bend = (p * z + 1.33314422036e-1) * z - 3.33332819422e-1
    return tl.where(tl.abs(x) < 0.625, bend * z * x + x, tl.where(x < 0, -far, far))


@jit
def sigmoid(x: tl.tensor) -> tl.tensor:
    t = exp_down(-tl.abs(x))
    return tl.where(x < 0, t, 1.0) / (1.0 + t)


@jit
def phi(x: tl.tensor) -> tl.tensor:
    """The normal distribution function."""
    return 0.5 * (1.0 + tl.erf(x * 0.70710678118654752440))


@jit
def activate(x: tl.tensor, slope: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """act(x); x itself if KIND is None."""
    if KIND == "relu":
        x = tl.where(x < 0, 0.0, x)  # a NaN stays one
    elif KIND == "relu6":
        x = tl.where(x < 0, 0.0, tl.where(x > 6, 6.0, x))
    elif KIND == "leaky_relu":
        x = tl.where(x > 0, x, slope * x)
    elif KIND == "tanh":
        x = tanh(x)
    elif KIND == "sigmoid":
        x = sigmoid(x)
    elif KIND == "gelu":
        x = x * phi(x)
    elif KIND == "silu":
        x = x * sigmoid(x)
    return x


@jit
def differentiate(
    x: tl.tensor, out: tl.tensor, dout: tl.tensor, slope: tl.tensor, KIND: tl.constexpr
) -> tl.tensor:
    """dout act'(x), from x or from out = act(x), whichever the kind needs."""
    if KIND == "relu":
        d = tl.where(out > 0, 1.0, 0.0).to(dout.dtype)
    elif KIND == "relu6":
        d = tl.where((out > 0) & (out < 6), 1.0, 0.0).to(dout.dtype)
    elif KIND == "leaky_relu":
        d = tl.where(x > 0, 1.0, slope)
    elif KIND == "tanh":
        d = 1.0 - out * out
    elif KIND == "sigmoid":
        d = out * (1.0 - out)
    elif KIND == "gelu":
        d = phi(x) + x * (0.39894228040143267794 * exp_down(-0.5 * x * x))
    elif KIND == "silu":
        s = sigmoid(x)
        d = s * (1.0 + x * (1.0 - s))
    return dout * d
