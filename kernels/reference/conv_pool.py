"""`conv_pool` and its backward in plain torch, client by client."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..geometry import Geometry, Windows
from .common import derivative
from .conv import conv, conv_backward


def conv_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    out: Tensor,
    tap: Tensor,
    precision: str,
) -> Tensor:
    """`conv`, its results pooled, and the taps of the maxima, see `kernels.conv_pool`."""
    planes = x.new_empty(*out.shape[:3], *windows.planes)
    conv(x, weight, bias, geometry, activation, planes, precision)
    width = windows.planes[1]
    for k in range(x.shape[0]):
        out[k], where = F.max_pool2d(planes[k], windows.kernel, return_indices=True)
        down, across = where // width % windows.kernel[0], where % width % windows.kernel[1]
        tap[k] = down * windows.kernel[1] + across
    return out


def conv_pool_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """Gradients of `conv_pool`, see `kernels.conv_pool_backward`."""
    if activation is not None:
        dout.mul_(derivative(x, out, activation))
    (height, width), (kh, kw) = windows.planes, windows.kernel
    planes = x.new_zeros(*out.shape[:3], height, width)
    for t in range(kh * kw):
        rows, columns = slice(t // kw, height // kh * kh, kh), slice(t % kw, width // kw * kw, kw)
        planes[..., rows, columns] = dout.where(tap == t, 0.0)
    sinks = dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    conv_backward(x, weight, planes, planes, geometry, None, dx, *sinks)


def pick(x: Tensor, windows: Windows, out: Tensor, tap: Tensor) -> Tensor:
    """Of each window the element at its tap, see `kernels.pick`."""
    (height, width), (kh, kw) = windows.planes, windows.kernel
    for t in range(kh * kw):
        rows, columns = slice(t // kw, height // kh * kh, kh), slice(t % kw, width // kw * kw, kw)
        out.copy_(x[..., rows, columns].where(tap == t, out))
    return out
