"""`linear` and its backward in plain torch."""

from __future__ import annotations

from torch import Tensor

from .common import activated, added, derivative, folded, squared


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
    gamma: Tensor,
    add_weight: Tensor | None,
    add_bias: Tensor | None,
) -> None:
    """`dx = dout W`, `dweight = beta base + alpha dout^T x + gamma add`, dbias likewise."""
    if activation is not None:
        dout.mul_(derivative(out, out, activation))
    if dx is not None:
        dx.copy_(dout @ weight)
    folded(dweight, base_weight, dout.transpose(1, 2) @ x, alpha, beta)
    folded(dbias, base_bias, dout.sum(1), alpha, beta)
    added(dweight, add_weight, gamma)
    added(dbias, add_bias, gamma)
    squared(squares, dweight, dbias)
