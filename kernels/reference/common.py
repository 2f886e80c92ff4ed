"""What the references share: terms, norms, activations, folded gradients.

Each module of this folder is the specification of the operation of the same name that the other
backends are compared with: whole-tensor expressions in plain torch, any floating dtype (float64 in
tests), any device. Arguments arrive checked by the public function: `[K, S]` or `[K, ...]` (a
shared operand has stride 0), per-client scalars `[K]`, radii `[K, 1]` or `[K, L]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..placed import RowsLike, dense
from ..segments import Segments

Terms = Sequence[tuple[RowsLike, Tensor]]


def combine(terms: Terms) -> Tensor:
    """`sum_j c_j * d_j` in the order given. terms: (d [K, S], c [K]) -> [K, S]."""
    total = terms[0][1][:, None] * dense(terms[0][0])
    for buffer, coef in terms[1:]:
        total = total + coef[:, None] * dense(buffer)
    return total


def norm_of(x: Tensor) -> Tensor:
    """Euclidean norm of each row, summed in float64. x: [K, S] -> [K] float64."""
    return x.double().square().sum(dim=1).sqrt()


def spread(per_layer: Tensor, segments: Segments | None, size: int, fill: float) -> Tensor:
    """Values per segment laid out over the row, `fill` in the padding. [K, 1|L] -> [K, 1|S]."""
    if segments is None:
        return per_layer
    row = per_layer.new_full((per_layer.shape[0], size), fill)
    for layer, (start, stop) in enumerate(segments.spans):
        row[:, start:stop] = per_layer[:, layer : layer + 1]
    return row


def activated(x: Tensor, kind: str | None, slope: float = 0.0) -> Tensor:
    match kind:
        case None:
            return x
        case "relu":
            return torch.relu(x)
        case "tanh":
            return torch.tanh(x)
        case "gelu":
            return x * _phi(x)
        case "silu":
            return x * torch.sigmoid(x)
        case "leaky_relu":
            return torch.where(x > 0, x, slope * x)
        case "sigmoid":
            return torch.sigmoid(x)
        case "relu6":
            return torch.clamp(x, 0, 6)
    raise ValueError(f"kind: {kind!r}")


def derivative(x: Tensor, out: Tensor, kind: str, slope: float = 0.0) -> Tensor:
    match kind:
        case "relu":
            return (out > 0).to(out.dtype)
        case "tanh":
            return 1 - out * out
        case "gelu":
            return _phi(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        case "silu":
            s = torch.sigmoid(x)
            return s * (1 + x * (1 - s))
        case "leaky_relu":
            return torch.where(x > 0, torch.ones_like(x), slope)
        case "sigmoid":
            return out * (1 - out)
        case "relu6":
            return ((out > 0) & (out < 6)).to(out.dtype)
    raise ValueError(f"kind: {kind!r}")


def _phi(x: Tensor) -> Tensor:
    """The normal distribution function."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def squared(to: Tensor | None, *written: Tensor | None) -> None:
    """to `[K]`, if given: the sum of squares of all that was written, in float64."""
    if to is not None:
        rows = [t.flatten(1).double() for t in written if t is not None]
        to.copy_(torch.cat(rows, dim=1).square().sum(1))


def folded(
    to: Tensor | None, base: Tensor | None, gradient: Tensor, alpha: Tensor, beta: Tensor
) -> None:
    """`to = beta * base + alpha * gradient`, if `to`; where beta is 0 base is not read.

    alpha, beta  `[K]` beside a gradient `[K, ...]`, or `[]` beside that of one client
    """
    if to is not None:
        a, b = (c.view(*c.shape, *[1] * (gradient.ndim - c.ndim)) for c in (alpha, beta))
        kept = 0.0 if base is None else torch.where(b == 0, 0.0, b * base)
        to.copy_(kept + a * gradient)


def added(to: Tensor | None, addend: Tensor | None, gamma: Tensor) -> None:
    """`to += gamma * addend`, if there are both. `[K, ...]`, gamma `[K]`"""
    if to is not None and addend is not None:
        to.add_(gamma.view(-1, *[1] * (to.ndim - 1)) * addend)


def client(bank: Tensor | None, k: int) -> Tensor | None:
    return None if bank is None else bank[k]


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * along_channels(weight, x)
    return x if bias is None else x + along_channels(bias, x)


def along_channels(per_channel: Tensor, x: Tensor) -> Tensor:
    """[C] beside x [B, C, ...]."""
    return per_channel.view(-1, *[1] * (x.ndim - 2))
