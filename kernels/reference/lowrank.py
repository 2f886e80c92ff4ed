"""`ghost`, `joined`, `reach` and `lowrank` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .common import activated


def ghost(x: Tensor, d: Tensor, ones: float, gram: Tensor, squares: Tensor, precision: str) -> None:
    """`gram = x x^T + ones`, `squares = |d^T x|^2 + ones |sum_B d|^2`, with the gradient formed."""
    gram.copy_(x @ x.transpose(1, 2) + ones)
    weight, bias = (d.transpose(1, 2) @ x).double(), d.sum(1).double()
    squares.copy_(weight.square().sum((1, 2)) + ones * bias.square().sum(1))


def joined(
    x: Tensor,
    d: Tensor,
    ones: float,
    add_weight: Tensor,
    add_bias: Tensor | None,
    known: Sequence[Tensor],
    added: Sequence[Tensor],
    limit: float,
    squares: Tensor,
    precision: str,
) -> Tensor:
    """`squares = |d^T x + W1|^2 + ones |sum_B d + b1|^2` above the limit, else 0."""
    weight, bias = (d.transpose(1, 2) @ x + add_weight).double(), d.sum(1).double()
    bias = bias if add_bias is None else bias + add_bias
    both = weight.square().sum((1, 2)) + ones * bias.square().sum(1)
    return squares.copy_(both.where(doubtful(known, added, limit), 0.0))


def doubtful(known: Sequence[Tensor], added: Sequence[Tensor], limit: float) -> Tensor:
    """Whether `sqrt(rest + (|g| + |a|)^2)` is not at most the limit. [K]"""
    waiting, *others = (s.sum(1) for s in known)
    rest = sum(others, torch.zeros_like(waiting))
    own = waiting.sqrt() + sum((s.sum(1) for s in added), torch.zeros_like(waiting)).sqrt()
    return ~((rest + own.square()).sqrt() <= limit)


def reach(
    squares: Sequence[Tensor],
    rho: float,
    eps: float,
    most: float,
    radii: Tensor | None,
    out: Tensor,
) -> Tensor:
    """`out = min(rho / (sqrt(sum of all squares) + eps), most)`."""
    total = sum(s.sum(1) for s in squares)
    return out.copy_(
        ((rho if radii is None else radii) / (torch.as_tensor(total).sqrt() + eps)).clamp(max=most)
    )


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
    precision: str,
) -> Tensor:
    """`out = act(base + scale (x u^T + ones) v)`."""
    product = (x @ u.transpose(1, 2) + ones if gram is None else gram) @ v
    return out.copy_(activated(base + scale[:, None, None] * product, activation))
