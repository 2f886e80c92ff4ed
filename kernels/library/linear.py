"""`linear` by cuBLAS' batched products; the activation's derivative and the bias as in Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from ..triton.linear import biases_of, correct, through
from ..triton.sums import Squares
from .blocks import blocks, filled
from .candidates import Candidate
from .settings import settled
from .sinks import Sink, finish, part


def linear(
    how: Candidate,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`linear` by batched products."""
    size = how.clients
    with settled(precision):
        for at in blocks(len(x), size):
            z = torch.bmm(filled(x[at], size), filled(weight[at], size).mT)
            finish(z[: len(x[at])], part(bias, at), activation, out[at])
    return out


def linear_backward(
    how: Candidate,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
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
    gamma: Tensor,
    add_weight: Tensor | None,
    add_bias: Tensor | None,
) -> None:
    """`linear_backward` by batched products."""
    biases, partial = biases_of(dbias), Squares()
    if squares is not None:
        partial = Squares.of(x, biases + Sink.programs(dweight))
    if activation is not None or dbias is not None:
        through(out, dout, activation, dbias, alpha, beta, base_bias, partial)
    sink = None
    if dweight is not None:
        sink = Sink(dweight, base_weight, alpha, beta, partial.behind(biases))
    with settled(precision):
        for at in blocks(len(x), how.clients):
            _block(how.clients, x[at], weight[at], dout[at], part(dx, at), sink, at)
    partial.add_up(squares)
    correct(((dweight, add_weight), (dbias, add_bias)), gamma)


def _block(
    size: int,
    x: Tensor,
    weight: Tensor,
    dout: Tensor,
    dx: Tensor | None,
    sink: Sink | None,
    at: slice,
) -> None:
    """dx, then the weight's gradient into its sink."""
    d = filled(dout, size)
    if dx is not None:
        dx.copy_(torch.bmm(d, filled(weight, size))[: len(x)])
    if sink is not None:
        sink.take(torch.bmm(d.mT, filled(x, size))[: len(x)], at)
