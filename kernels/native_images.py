"""The operations on images, compiled; kernels hand over pointers, strides and sizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import native
from .geometry import Geometry, Windows
from .native import address, operand
from .native_layers import ACTIVATIONS, problem, squared


def window(x: Tensor, out: Tensor, kernel: tuple[int, ...], g: Geometry) -> tuple[int, ...]:
    """As `struct Window`; x and out end in their height and width."""
    return (*x.shape[-2:], *out.shape[-2:], *kernel, *g.stride, *g.padding, *g.dilation)


def _conv_window(
    x: Tensor, planes: tuple[int, ...], weight: Tensor, g: Geometry
) -> tuple[int, ...]:
    """As `struct Window`; planes: the sides of the convolution's results."""
    return (*x.shape[-2:], *planes, *weight.shape[-2:], *g.stride, *g.padding, *g.dilation)


def _conv_sizes(x: Tensor, weight: Tensor, g: Geometry) -> tuple[int, int, int, int]:
    return x.shape[1], x.shape[2], weight.shape[1], g.groups


NO_WINDOWS = (0,) * 12, operand(None)


def _pooled(windows: Windows, tap: Tensor) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Windows over the results of a convolution, and where their maxima's taps lie."""
    kernel = windows.kernel
    return (*windows.planes, *tap.shape[-2:], *kernel, *kernel, 0, 0, 1, 1), operand(tap)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`conv`, compiled."""
    _conv(x, weight, bias, geometry, tuple(out.shape[-2:]), NO_WINDOWS, activation, out)
    return out


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
    """`conv_pool`, compiled."""
    pooled = _pooled(windows, tap)
    _conv(x, weight, bias, geometry, windows.planes, pooled, activation, out)
    return out


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    planes: tuple[int, ...],
    pooled: tuple[tuple[int, ...], tuple[int, int]],
    activation: str | None,
    out: Tensor,
) -> None:
    native.module.conv(
        problem(x),
        _conv_sizes(x, weight, geometry),
        _conv_window(x, planes, weight, geometry),
        pooled,
        ACTIVATIONS.index(activation),
        operand(x),
        operand(weight),
        operand(bias),
        operand(out),
    )


def conv_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """`conv_backward`, compiled; squares by a pass of their own."""
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias
    given = x, weight, out, dout
    _conv_backward(given, geometry, tuple(out.shape[-2:]), NO_WINDOWS, activation, *sinks)
    squared(squares, dweight, dbias)


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
    dweight: Tensor,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """`conv_pool_backward`, compiled; squares by a pass of their own."""
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias
    given, pooled = (x, weight, out, dout), _pooled(windows, tap)
    _conv_backward(given, geometry, windows.planes, pooled, activation, *sinks)
    squared(squares, dweight, dbias)


def _conv_backward(
    given: tuple[Tensor, Tensor, Tensor, Tensor],
    geometry: Geometry,
    planes: tuple[int, ...],
    pooled: tuple[tuple[int, ...], tuple[int, int]],
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor,
    base_bias: Tensor | None,
) -> None:
    x, weight, out, dout = given
    native.module.conv_backward(
        problem(x),
        _conv_sizes(x, weight, geometry),
        _conv_window(x, planes, weight, geometry),
        pooled,
        ACTIVATIONS.index(activation),
        operand(x),
        operand(weight),
        operand(out),
        operand(dout),
        operand(dx),
        operand(dweight),
        operand(dbias),
        operand(base_weight),
        operand(base_bias),
        address(alpha),
        address(beta),
    )


def pool(
    x: Tensor,
    kind: str,
    kernel: tuple[int, int],
    geometry: Geometry,
    count_padding: bool,
    out: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """`pool`, compiled."""
    native.module.pool(
        problem(x),
        x.shape[1] * x.shape[2],
        window(x, out, kernel, geometry),
        (kind == "max", count_padding),
        operand(x),
        operand(out),
        operand(argmax),
    )
    return out


def pool_backward(
    dout: Tensor,
    kind: str,
    kernel: tuple[int, int],
    geometry: Geometry,
    count_padding: bool,
    dx: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """`pool_backward`, compiled."""
    native.module.pool_backward(
        problem(dx),
        dx.shape[1] * dx.shape[2],
        window(dx, dout, kernel, geometry),
        (kind == "max", count_padding),
        operand(dout),
        operand(dx),
        operand(argmax),
    )
    return dx


def _sizes(x: Tensor, out: Tensor) -> tuple[int, ...]:
    return (*x.shape[-2:], *out.shape[-2:], 1, 1, 1, 1, 0, 0, 1, 1)


def adaptive_avg(x: Tensor, out: Tensor) -> Tensor:
    """`adaptive_avg`, compiled."""
    planes = x.shape[1] * x.shape[2]
    native.module.adaptive_avg(problem(x), planes, _sizes(x, out), operand(x), operand(out))
    return out


def adaptive_avg_backward(dout: Tensor, dx: Tensor) -> Tensor:
    """`adaptive_avg_backward`, compiled."""
    planes, sizes = dx.shape[1] * dx.shape[2], _sizes(dx, dout)
    native.module.adaptive_avg_backward(problem(dx), planes, sizes, operand(dout), operand(dx))
    return dx


def _norm_sizes(x: Tensor, groups: int) -> tuple[int, int, int, int]:
    batch, channels = x.shape[1:3]
    return batch, channels, x.shape[3:].numel(), groups


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    count: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """`batch_norm`, compiled."""
    kept = running or (None, None)
    native.module.batch_norm(
        problem(x),
        _norm_sizes(x, 1),
        (operand(x), operand(weight), operand(bias)),
        (operand(kept[0]), operand(kept[1])),
        address(count),
        training,
        (momentum, eps),
        (operand(out), operand(mean), operand(rstd)),
    )


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """`group_norm`, compiled."""
    native.module.group_norm(
        problem(x),
        _norm_sizes(x, groups),
        (operand(x), operand(weight), operand(bias)),
        eps,
        (operand(out), operand(mean), operand(rstd)),
    )


def _norm_backward(
    call: Any,
    x: Tensor,
    groups: int,
    tensors: tuple[Tensor | None, ...],
    count: Tensor | None,
    training: bool,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    call(
        problem(x),
        _norm_sizes(x, groups),
        [operand(t) for t in (x, *tensors)],
        address(count),
        training,
        [operand(t) for t in (dx, dweight, dbias)],
        (address(alpha), address(beta)),
        (operand(base_weight), operand(base_bias)),
    )


def batch_norm_backward(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    count: Tensor,
    training: bool,
    *to: Any,
) -> None:
    """`batch_norm_backward`, compiled."""
    call = native.module.batch_norm_backward
    _norm_backward(call, x, 1, (weight, dout, mean, rstd), count, training, *to)


def group_norm_backward(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    *to: Any,
) -> None:
    """`group_norm_backward`, compiled."""
    call = native.module.group_norm_backward
    _norm_backward(call, x, groups, (weight, dout, mean, rstd), None, True, *to)
