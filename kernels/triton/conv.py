"""`conv` in Triton.

The data gradient is a correlation too: of dout with the taps turned around. Where the convolution
has a stride, places of dx that are congruent modulo the stride share their taps: each such class is
a launch of its own, and no product with an absent tap is formed.
"""

from __future__ import annotations

from math import prod

from torch import Tensor

from ..geometry import Geometry
from .conv_activation import through
from .conv_correlate import correlate
from .conv_gradient import programs, weight_gradient
from .conv_offsets import Side, forward_sides, turned_sides
from .conv_windows import Pooled
from .sums import Squares


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`conv` in Triton."""
    sides = forward_sides(x, weight, tuple(out.shape[3:]), geometry)
    forward(x, weight, bias, out, geometry, sides, (activation, precision))
    return out


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    geometry: Geometry,
    sides: tuple[Side, Side],
    options: tuple[str | None, str],
    given: Pooled | None = None,
) -> None:
    """The convolution; out takes its results, or the largest of each window."""
    groups, (channels, height, width) = geometry.groups, weight.shape[2:]
    taps = height * width
    rows = weight.shape[1] // groups
    steps = (rows * channels * taps, channels * taps, taps, width, 1)
    sizes = groups, channels, rows
    correlate(x, weight, bias, out, sizes, sides, steps, options, given=given)


def conv_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
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
    """`conv_backward` in Triton."""
    planes = tuple(dout.shape[3:])
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    backward(x, weight, out, dout, geometry, planes, activation, None, *sinks)


def backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
    planes: tuple[int, ...],
    activation: str | None,
    taken: Pooled | None,
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
    """planes: sides of the results; out and dout hold them or, `taken`, their largest elements."""
    groups, biases = geometry.groups, 0 if dbias is None else dbias.shape[1]
    partial = Squares()
    if squares is not None:
        pooled, pixels = taken is not None, x.shape[1] * prod(planes)
        weights = 0 if dweight is None else programs(dweight, groups, precision, pooled, pixels)
        partial = Squares.of(x, biases + weights)
    if activation is not None or dbias is not None:
        through(out, dout, activation, dbias, base_bias, alpha, beta, partial)
    if dx is not None:
        data_gradient(dout, weight, dx, planes, geometry, precision, taken)
    if dweight is not None:
        sinks = dweight, dweight if base_weight is None else base_weight, alpha, beta
        sides, more = forward_sides(x, weight, planes, geometry), (taken, partial.behind(biases))
        weight_gradient(x, dout, *sinks, groups, sides, precision, *more)
    partial.add_up(squares)


def data_gradient(
    dout: Tensor,
    weight: Tensor,
    dx: Tensor,
    planes: tuple[int, ...],
    g: Geometry,
    precision: str,
    taken: Pooled | None = None,
) -> None:
    """dx; planes: sides of the results, dout holding them or, `taken`, their largest elements."""
    sizes = zip(dx.shape[3:], weight.shape[3:], planes, strict=True)
    moves = zip(g.stride, g.padding, g.dilation, strict=True)
    vertical, horizontal = (
        turned_sides(*size, *move) for size, move in zip(sizes, moves, strict=True)
    )
    channels, height, width = weight.shape[2:]
    rows = weight.shape[1] // g.groups
    steps = (rows * channels * height * width, height * width, channels * height * width, width, 1)
    if len(vertical) * len(horizontal) < prod(map(min, g.stride, dx.shape[3:])):
        dx.zero_()  # places that no tap reaches
    for down in vertical:
        for across in horizontal:
            how = (g.groups, rows, channels), (down, across), steps, (None, precision)
            correlate(dout, weight, None, dx, *how, taken=taken)
