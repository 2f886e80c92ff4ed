"""`linear` and its backward in plain torch."""

from __future__ import annotations

from torch import Tensor

from .common import activated, derivative, folded, squared


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`out = act(x W^T + b)`."""
    z = x @ weight.transpose(1, 2)
    return out.copy_(activated(z if bias is None else z + bias[:, None], activation))


def linear_backward(
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
) -> None:
    """`dx = dout W`, then `dweight = beta base + alpha dout^T x`, dbias likewise."""
    if activation is not None:
        dout.mul_(derivative(out, out, activation))
    if dx is not None:
        dx.copy_(dout @ weight)
    folded(dweight, base_weight, dout.transpose(1, 2) @ x, alpha, beta)
    folded(dbias, base_bias, dout.sum(1), alpha, beta)
    squared(squares, dweight, dbias)
