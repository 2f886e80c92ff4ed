"""Where a local step's gradient is taken: plain, SAM, ASAM. (v, x, y) -> [P]"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .run import IS_WEIGHT, gradient

Gradient = Callable[[Tensor, Tensor, Tensor], Tensor]
plain: Gradient = gradient


def sam(rho: float, eps: float = 0.0) -> Gradient:
    def at_ascent(v, x, y):
        g = gradient(v, x, y)
        return gradient(v + rho * g / (g.norm() + eps), x, y)

    return at_ascent


def asam(rho: float, eta: float, eps: float = 0.0) -> Gradient:
    def at_ascent(v, x, y):
        g = gradient(v, x, y)
        t = (v.abs() + eta).where(IS_WEIGHT, v.new_ones(()))
        return gradient(v + rho * t * t * g / ((t * g).norm() + eps), x, y)

    return at_ascent
