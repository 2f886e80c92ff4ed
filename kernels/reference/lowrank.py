"""`ghost`, `reach` and `lowrank` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .common import activated


def ghost(x: Tensor, d: Tensor, ones: float, gram: Tensor, squares: Tensor) -> None:
    """`gram = x x^T + ones`, `squares = |d^T x|^2 + ones |sum_B d|^2`, with the gradient formed."""
    gram.copy_(x @ x.transpose(1, 2) + ones)
    weight, bias = (d.transpose(1, 2) @ x).double(), d.sum(1).double()
    squares.copy_(weight.square().sum((1, 2)) + ones * bias.square().sum(1))


def reach(squares: Sequence[Tensor], rho: float, eps: float, most: float, out: Tensor) -> Tensor:
    """`out = min(rho / (sqrt(sum of all squares) + eps), most)`."""
    total = sum(s.sum(1) for s in squares)
    return out.copy_((rho / (torch.as_tensor(total).sqrt() + eps)).clamp(max=most))


def lowrank(
    x: Tensor,
    u: Tensor,
    v: Tensor,
    scale: Tensor,
    ones: float,
    gram: Tensor | None,
    base: Tensor,
    activation: str | None,
    out: Tensor,
) -> Tensor:
    """`out = act(base + scale (x u^T + ones) v)`."""
    product = (x @ u.transpose(1, 2) + ones if gram is None else gram) @ v
    return out.copy_(activated(base + scale[:, None, None] * product, activation))
