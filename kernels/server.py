"""The server's rules: what `aggregate` adds to the global row after the last chunk of clients.

    average   w + lr D
    momentum  m = beta1 m + D;  w + lr m
    adam      m = beta1 m + (1-beta1) D;  v = beta2 v + (1-beta2) D^2;  w + lr m / (sqrt v + tau)
    yogi      as adam, but v = v - (1-beta2) D^2 sign(v - D^2)
    adagrad   as adam, but v = v + D^2

D is the mean update, float64. Moments are stored in the row's dtype and used as stored. Sources:
FedAvg (McMahan et al. 2017), FedAvgM (Hsu et al. 2019), FedOpt (Reddi et al. 2021, alg. 2).
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import math
from dataclasses import dataclass

from .triton.common import jit, tl

RULES = ("average", "momentum", "adam", "yogi", "adagrad")


@dataclass(frozen=True)
class Server:
    """A server rule of `aggregate`: one of RULES, the server's learning rate, and FedOpt's scalars.

    beta1 and beta2 decay the moments m and v, tau is added to sqrt v. Raises ValueError for an
    unknown rule or a number that is not finite, TypeError for what is no number.
    """

    rule: str = "average"
    lr: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}; got {self.rule!r}")
        for name in ("lr", "beta1", "beta2", "tau"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}: expected a number; got {type(value).__name__}")
            if not math.isfinite(value):
                raise ValueError(f"{name}: expected a finite number; got {value}")

    @property
    def moments(self) -> int:
        """How many moment rows the rule keeps: 0, 1 (m) or 2 (m, v)."""
        return {"average": 0, "momentum": 1}.get(self.rule, 2)


@jit
def wide(row, cols, mask):
    """A block of a row in float64."""
    return tl.load(row + cols, mask, other=0.0).to(tl.float64)


@jit
def kept(row, cols, mask, value):
    """Store a moment in the row's dtype and return it as stored."""
    stored = value.to(row.dtype.element_ty)
    tl.store(row + cols, stored, mask)
    return stored.to(tl.float64)


@jit
def change(mean, m, v, cols, mask, lr, beta1, beta2, tau, RULE: tl.constexpr):
    """What the server adds to its model, see the head of this file."""
    if RULE == "average":
        move = lr * mean
    elif RULE == "momentum":
        move = lr * kept(m, cols, mask, beta1 * wide(m, cols, mask) + mean)
    else:
        square = mean * mean
        old = wide(v, cols, mask)
        if RULE == "adagrad":
            second = old + square
        elif RULE == "adam":
            second = beta2 * old + (1 - beta2) * square
        else:
            side = tl.where(old > square, 1.0, tl.where(old < square, -1.0, 0.0))
            second = old - (1 - beta2) * square * side
        root = tl.sqrt(kept(v, cols, mask, second))
        moment = kept(m, cols, mask, beta1 * wide(m, cols, mask) + (1 - beta1) * mean)
        move = lr * moment / (root + tau)
    return move
