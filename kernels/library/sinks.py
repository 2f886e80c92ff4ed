"""Where a library's results go: into `out`, and gradients of weights into their sinks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..triton.conv_parts import ADDED, add_parts
from ..triton.sums import Squares


def finish(z: Tensor, bias: Tensor | None, activation: str | None, out: Tensor) -> None:
    """`out = act(z + bias)`; z, out `[n, B, O, ...]`, bias `[n, O]`."""
    if bias is None:
        out.copy_(z)
    else:
        own = bias[:, None].unflatten(2, (-1, *[1] * (out.ndim - 3)))
        torch.add(z, own, out=out)
    if activation is not None:
        {"relu": out.relu_, "tanh": out.tanh_}[activation]()


def part(t: Tensor | None, at: slice) -> Tensor | None:
    """A block's."""
    return None if t is None else t[at]


@dataclass(frozen=True)
class Sink:
    """Where a weight's gradient goes: `to = beta base + alpha gradient`, `[K, ...]`.

    partial  slots for the squares of what is written
    """

    to: Tensor
    base: Tensor | None
    alpha: Tensor
    beta: Tensor
    partial: Squares

    @staticmethod
    def programs(to: Tensor | None) -> int:
        """How many slots a client needs."""
        return 0 if to is None else -(-to[0].numel() // ADDED)

    def take(self, gradient: Tensor, at: slice) -> None:
        """The gradient `[n, ...]` of a block's clients."""
        slots = part(self.partial.slots, at)
        base = self.to if self.base is None else self.base
        own = self.alpha[at], self.beta[at], tuple(self.partial._replace(slots=slots))
        add_parts(gradient.contiguous()[:, None], self.to[at], base[at], *own, 0)
