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
from .conv_windows import Pooled, put_back
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
    pooled: Pooled | None = None,
) -> None:
    """The convolution; out takes its results, or the largest of each window."""
    groups, (channels, height, width) = geometry.groups, weight.shape[2:]
    taps = height * width
    rows = weight.shape[1] // groups
    steps = (rows * channels * taps, channels * taps, taps, width, 1)
    sizes = groups, channels, rows
    correlate(x, weight, bias, out, sizes, sides, steps, options, pooled)


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
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    backward(x, weight, out, dout, geometry, None, activation, *sinks)


def backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
    pooled: Pooled | None,
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
    """out and dout hold the results or, `pooled`, the largest elements of their windows."""
    groups, biases = geometry.groups, 0 if dbias is None else dbias.shape[1]
    planes = tuple(dout.shape[3:]) if pooled is None else pooled.planes
    partial = Squares()
    if squares is not None:
        pixels = x.shape[1] * prod(planes)
        weights = 0 if dweight is None else programs(dweight, groups, precision, pixels)
        partial = Squares.of(x, biases + weights)
    if activation is not None or dbias is not None:
        through(out, dout, activation, dbias, base_bias, alpha, beta, partial)
    if pooled is not None and not (dx is None and dweight is None):
        dout = put_back(dout, pooled)
    if dx is not None:
        data_gradient(dout, weight, dx, geometry, precision)
    if dweight is not None:
        sinks = dweight, dweight if base_weight is None else base_weight, alpha, beta
        sides = forward_sides(x, weight, planes, geometry)
        weight_gradient(x, dout, *sinks, groups, sides, precision, partial.behind(biases))
    partial.add_up(squares)


def data_gradient(dz: Tensor, weight: Tensor, dx: Tensor, g: Geometry, precision: str) -> None:
    """`dx = dz * turned(w)`."""
    sizes = zip(dx.shape[3:], weight.shape[3:], dz.shape[3:], strict=True)
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
            correlate(dz, weight, None, dx, *how)
