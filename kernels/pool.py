"""`pool` and `adaptive_avg` with their backwards: windows over images `[K, B, C, H, W]`.

    max   out = max over the window, argmax = where (row * W + column in the plane)
    avg   out = sum over the window / its size
    backward: dx = sum over the windows that hold an element of their share of dout

Operations of a client: B C OH OW kh kw comparisons or additions. Bytes (f = element size): f times
the image and the result once each, 4 more per result for argmax.
Deterministic: a client is one thread's work, windows are added in order; in Triton every element is
one thread's.
Source: torch's max_pool2d, avg_pool2d and adaptive_avg_pool2d, whose rules these are (NaN wins, of
equals the first, padding is never the largest).
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import native_images
from ._blocks import block, floating, integers, written
from ._images import Ints, Pair, pair, reach
from .geometry import Geometry
from .reference import pool as reference
from .registry import dispatch
from .triton import pool as triton
from .triton import pool_backward as triton_backward

KINDS = ("max", "avg")


def pool(
    x: Tensor,
    kind: str,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    *,
    count_include_pad: bool = True,
    out: Tensor | None = None,
    argmax: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return the largest element ("max") or the mean ("avg") of each window.

    x        `[K, B, C, H, W]`
    kernel, stride, padding   ints or (vertical, horizontal); stride defaults to the kernel, padding
             is at most half of it
    count_include_pad         whether padding counts in a mean's divisor
    out      `[K, B, C, OH, OW]`, OH = (H + 2 padding - kh) / stride + 1; allocated if None
    argmax   int32, as out: where each maximum lies, for `pool_backward`; only for "max"
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, H, W")
    taps, geometry = _window(kind, kernel, stride, padding)
    shape = _out_shape(x, taps, geometry)
    out = written("out", out, shape, x)
    args = (x, kind, taps, geometry, count_include_pad, out, _argmax(kind, argmax, shape, x))
    return dispatch(_POOL, backend, x, *args)


def pool_backward(
    dout: Tensor,
    kind: str,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    *,
    dx: Tensor,
    argmax: Tensor | None = None,
    count_include_pad: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Write and return the gradient `dx` `[K, B, C, H, W]` of `pool`; `argmax` as it left it.

    Raises TypeError/ValueError naming the argument.
    """
    dx = floating("dx", dx, "K, B, C, H, W")
    dx = written("dx", dx, dx.shape, dx)
    taps, geometry = _window(kind, kernel, stride, padding)
    shape = _out_shape(dx, taps, geometry)
    if kind == "max" and argmax is None:
        raise ValueError("argmax: expected what pool(kind='max', argmax=...) wrote; got None")
    dout = block("dout", dout, shape, dx)
    args = (dout, kind, taps, geometry, count_include_pad, dx, _argmax(kind, argmax, shape, dx))
    return dispatch(_POOL_BACKWARD, backend, dx, *args)


def adaptive_avg(
    x: Tensor, output_size: Ints, *, out: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return means over OH x OW nearly equal windows: `[K, B, C, H, W]` -> `[K, B, C, OH, OW]`.

    output_size   an int or (OH, OW); window i of OH spans rows i H / OH to (i + 1) H / OH, the
                  first rounded down, the second up
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, H, W")
    size = pair("output_size", output_size, 1)
    return dispatch(_ADAPTIVE, backend, x, x, written("out", out, (*x.shape[:3], *size), x))


def adaptive_avg_backward(dout: Tensor, *, dx: Tensor, backend: str = "auto") -> Tensor:
    """Write and return the gradient `dx` `[K, B, C, H, W]` of `adaptive_avg`.

    Raises TypeError/ValueError naming the argument.
    """
    dx = floating("dx", dx, "K, B, C, H, W")
    dx = written("dx", dx, dx.shape, dx)
    dout = floating("dout", dout, "K, B, C, OH, OW")
    dout = block("dout", dout, (*dx.shape[:3], *dout.shape[3:]), dx)
    return dispatch(_ADAPTIVE_BACKWARD, backend, dx, dout, dx)


def _window(kind: str, kernel: Ints, stride: Ints | None, padding: Ints) -> tuple[Pair, Geometry]:
    if kind not in KINDS:
        raise ValueError(f"kind: expected 'max' or 'avg'; got {kind!r}")
    taps = pair("kernel", kernel, 1)
    margin = pair("padding", padding, 0)
    if 2 * margin[0] > taps[0] or 2 * margin[1] > taps[1]:
        raise ValueError(f"padding: expected at most half of the kernel {taps}; got {margin}")
    return taps, Geometry(taps if stride is None else pair("stride", stride, 1), margin)


def _out_shape(x: Tensor, taps: Pair, g: Geometry) -> tuple[int, ...]:
    size = (x.shape[3], x.shape[4])
    return (*x.shape[:3], *reach("kernel", size, taps, g.stride, g.padding, (1, 1)))


def _argmax(kind: str, argmax: Tensor | None, shape: tuple[int, ...], x: Tensor) -> Tensor | None:
    if argmax is None:
        return None
    if kind != "max":
        raise ValueError(f"argmax: expected None with kind={kind!r}; got a tensor")
    same = integers("argmax", argmax, shape, torch.int32, x)
    if same.data_ptr() != argmax.data_ptr():
        raise ValueError(f"argmax: expected a contiguous tensor; got strides {argmax.stride()}")
    return same


_POOL = {
    "reference": reference.pool,
    "native": native_images.pool,
    "triton": triton.pool,
}
_POOL_BACKWARD = {
    "reference": reference.pool_backward,
    "native": native_images.pool_backward,
    "triton": triton_backward.pool_backward,
}
_ADAPTIVE = {
    "reference": reference.adaptive_avg,
    "native": native_images.adaptive_avg,
    "triton": triton.adaptive_avg,
}
_ADAPTIVE_BACKWARD = {
    "reference": reference.adaptive_avg_backward,
    "native": native_images.adaptive_avg_backward,
    "triton": triton_backward.adaptive_avg_backward,
}
