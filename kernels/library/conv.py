"""`conv` by a library's convolutions or products; what surrounds them as in Triton."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..geometry import Geometry
from ..triton.conv_activation import through
from ..triton.sums import Squares
from .blocks import blocks
from .candidates import Candidate
from .products import products
from .settings import settled
from .sinks import Sink, finish, part


def conv(
    how: Candidate,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`conv` by a library."""
    by = products(how)
    with settled(precision):
        for at in blocks(len(x), how.clients):
            z = by.forward(x[at], weight[at], geometry)
            finish(z, part(bias, at), activation, out[at])
    return out


def conv_backward(
    how: Candidate,
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
    """`conv_backward` by a library."""
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    backward(how, x, weight, out, dout, geometry, activation, dout.__getitem__, *sinks)


def backward(
    how: Candidate,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
    activation: str | None,
    planes: Callable[[slice], Tensor],
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
    """planes: the gradient of a block's results `[n, B, O, P, Q]`, once dout has the derivative."""
    biases, partial = 0 if dbias is None else dbias.shape[1], Squares()
    if squares is not None:
        partial = Squares.of(x, biases + Sink.programs(dweight))
    if activation is not None or dbias is not None:
        through(out, dout, activation, dbias, base_bias, alpha, beta, partial)
    sink = None
    if dweight is not None:
        sink = Sink(dweight, base_weight, alpha, beta, partial.behind(biases))
    by, wanted = products(how), (dx is not None, dweight is not None)
    with settled(precision):
        for at in blocks(len(x), how.clients) if any(wanted) else ():
            data, gradient = by.backward(x[at], weight[at], planes(at), geometry, wanted)
            if dx is not None and data is not None:
                dx[at].copy_(data)
            if sink is not None and gradient is not None:
                sink.take(gradient, at)
    partial.add_up(squares)
