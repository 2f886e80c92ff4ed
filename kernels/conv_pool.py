"""`conv_pool` and `conv_pool_backward`: `conv`, then max pooling over windows side by side.

    out = max over each window of act(x * w + b),  tap = which of its elements that is
    backward: `conv_backward` with dz = dout act'(out) at the maxima, 0 elsewhere

Bytes: of the convolution's results only the maxima and a byte each are written and read again: for
2 x 2 windows of float32 1.25 instead of 4 + 1 + 1 numbers a window each way. Operations: `conv`'s.
Deterministic as `conv` is; results are `conv`'s followed by `pool`'s to the bit (native: planes are
pooled while they are in cache; Triton: a program owns whole windows, see `triton/conv_windows.py`).
Source: `conv` and `pool`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import native_images
from ._args import Coefficient, precise
from ._blocks import block, float64_per_client, floating, integers, written
from ._images import Ints, pair, sinks
from .conv import _geometry, _out_shape, _weight
from .geometry import Windows
from .linear import _fused
from .reference import conv_pool as reference
from .registry import dispatch
from .triton import conv_pool as triton

MAX_TAPS = 16  # a tile of the Triton voice holds whole windows


def conv_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel: Ints,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    activation: str | None = None,
    out: Tensor | None = None,
    tap: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return the largest element of each window of `conv`'s results.

    x, weight, bias, stride, padding, dilation, groups, activation, precision   as in `conv`
    kernel   of a window, an int or (vertical, horizontal), at most 16 elements; windows lie side by
             side and cover what they can
    out      `[K, B, O, OH / vertical, OW / horizontal]`, rounded down; allocated if None
    tap      uint8, as out: the place of each maximum in its window, row by row, for
             `conv_pool_backward`; of equals the first
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, H, W")
    geometry = _geometry(stride, padding, dilation, groups)
    weight = _weight(x, weight, geometry)
    if bias is not None:
        bias = block("bias", bias, weight.shape[:2], x)
    shape, windows = _windows(_out_shape(x, weight, geometry), kernel)
    out = written("out", out, shape, x)
    tap = torch.empty(shape, dtype=torch.uint8, device=x.device) if tap is None else tap
    given = x, weight, bias, geometry, windows, _fused(activation)
    return dispatch(_CONV_POOL, backend, x, *given, out, _taps(tap, shape, x), precise(precision))


def conv_pool_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    *,
    kernel: Ints,
    dweight: Tensor,
    dbias: Tensor | None = None,
    dx: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    activation: str | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    squares: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> None:
    """Write the gradients of `conv_pool` into dx, dweight and dbias, in this order.

    x, weight, out, tap   as given to, returned and written by `conv_pool`
    dout   as out; workspace: what it holds afterwards is the voice's business
    dx, dweight, dbias, squares and all others   as in `conv_backward`
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, H, W")
    geometry = _geometry(stride, padding, dilation, groups)
    weight = _weight(x, weight, geometry)
    shape, windows = _windows(_out_shape(x, weight, geometry), kernel)
    out, dout = block("out", out, shape, x), written("dout", dout, shape, x)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    bases = (base_weight, base_bias)
    to = sinks(x, weight.shape, dweight, dbias, weight.shape[:2], (alpha, beta), bases)
    given = x, weight, out, _taps(tap, shape, x), dout, geometry, windows, _fused(activation)
    more = precise(precision), float64_per_client("squares", squares, x)
    dispatch(_CONV_POOL_BACKWARD, backend, x, *given, dx, *to, *more)


def _windows(shape: tuple[int, ...], kernel: Ints) -> tuple[tuple[int, ...], Windows]:
    """The shape of the maxima, and their windows over results of `shape`."""
    sides, size = pair("kernel", kernel, 1), (shape[3], shape[4])
    if sides[0] * sides[1] > MAX_TAPS or sides[0] > size[0] or sides[1] > size[1]:
        raise ValueError(
            f"kernel: expected a window of at most {MAX_TAPS} elements within the results "
            f"{list(size)}; got {list(sides)}"
        )
    return (*shape[:3], size[0] // sides[0], size[1] // sides[1]), Windows(size, sides)


def _taps(tap: Tensor, shape: tuple[int, ...], x: Tensor) -> Tensor:
    same: Tensor = integers("tap", tap, shape, torch.uint8, x)
    if same.data_ptr() != tap.data_ptr():
        raise ValueError(f"tap: expected a contiguous tensor; got strides {tap.stride()}")
    return same


_CONV_POOL = {
    "reference": reference.conv_pool,
    "native": native_images.conv_pool,
    "triton": triton.conv_pool,
}
_CONV_POOL_BACKWARD = {
    "reference": reference.conv_pool_backward,
    "native": native_images.conv_pool_backward,
    "triton": triton.conv_pool_backward,
}
