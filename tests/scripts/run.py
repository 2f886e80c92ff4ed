"""What a script needs of a run: its data and batches, a tiny network, the local step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

INPUTS, HIDDEN, CLASSES = 3, 4, 3
SHAPES = {
    "0.weight": (HIDDEN, INPUTS),
    "0.bias": (HIDDEN,),
    "2.weight": (CLASSES, HIDDEN),
    "2.bias": (CLASSES,),
}


def spans() -> dict[str, slice]:
    """Where each tensor lies in a flat vector."""
    found, begin = {}, 0
    for name, shape in SHAPES.items():
        size = torch.Size(shape).numel()
        found[name] = slice(begin, begin + size)
        begin += size
    return found


SPANS = spans()
FROZEN: set[str] = set()  # tensors that a test holds still: their gradient is zero
IS_WEIGHT = torch.cat([torch.full(shape, "weight" in n).flatten() for n, shape in SHAPES.items()])


def gradient(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Of the mean cross-entropy of a two-layer tanh network at the flat weights v [P]."""
    v = v.detach().requires_grad_()
    a, b, c, d = (v[at].view(SHAPES[name]) for name, at in SPANS.items())
    logits = F.linear(torch.tanh(F.linear(x, a, b)), c, d)
    g = torch.autograd.grad(F.cross_entropy(logits, y), v)[0]
    return trained(g)


def trained(v: Tensor) -> Tensor:
    """v [P], zero where tensors are frozen."""
    v = v.clone()
    for name in FROZEN:
        v[SPANS[name]] = 0
    return v


@dataclass(frozen=True)
class Run:
    """A run written down.

    data     (x, y) of each of the N clients
    cohorts  cohorts[t] = ids of round t
    epochs   epochs[t][j] = the local epochs of client cohorts[t][j]: lists of index lists
    """

    w0: Tensor
    data: list[tuple[Tensor, Tensor]]
    cohorts: list[list[int]]
    epochs: list[list[list[list[list[int]]]]]
    lr: float
    lr_decay: float
    weight_decay: float
    clip_norm: float | None
    server_lr: float
    by_samples: bool

    def eta(self, t: int) -> float:
        return self.lr * self.lr_decay**t

    def shares(self, t: int) -> list[float]:
        """p_k of the round's clients."""
        n = [len(self.data[k][1]) if self.by_samples else 1 for k in self.cohorts[t]]
        return [size / sum(n) for size in n]

    def by_epoch(self, t: int, k: int) -> list[list[tuple[Tensor, Tensor]]]:
        """Client k's batches of round t, epoch by epoch."""
        x, y = self.data[k]
        epochs = self.epochs[t][self.cohorts[t].index(k)]
        return [[(x[batch], y[batch]) for batch in epoch] for epoch in epochs]

    def batches(self, t: int, k: int) -> list[tuple[Tensor, Tensor]]:
        return [batch for epoch in self.by_epoch(t, k) for batch in epoch]

    def clip(self, d: Tensor) -> Tensor:
        if self.clip_norm is None:
            return d
        return d * min(1.0, self.clip_norm / (float(d.norm()) + 1e-6))

    def step(self, v: Tensor, d: Tensor, t: int, more_decay: float = 0.0) -> Tensor:
        """Weight decay joins after clipping."""
        return v - self.eta(t) * (self.clip(d) + (self.weight_decay + more_decay) * v)

    def pulled(self, v: Tensor, d: Tensor, t: int, w: Tensor, lam: float, clip: str) -> Tensor:
        """A step along `d + lam (v - w)`; "linear" keeps `lam v` out of the clip."""
        if clip == "whole":
            return self.step(v, d + lam * (v - w), t)
        return self.step(v, d - lam * trained(w), t, more_decay=lam * trained(torch.ones_like(w)))


def total(ps: list[float], rows: list[Tensor]) -> Tensor:
    """sum_k p_k rows_k."""
    return sum(p * row for p, row in zip(ps, rows, strict=True))
