"""What follows a gradient: the optimizer's step on K rows, in the same pass or apart from it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from .. import kernels
from ..algorithms import Optimizer
from ..programs.plans import place
from .adam import Adam
from .rates import Rates


@dataclass(frozen=True)
class HeavyBall:
    """`w = w - eta m`, where products have left `momentum m + g` in m; weight decay joins m first.

    w, m  [K, trained]
    """

    w: Tensor
    m: Tensor
    rates: Rates

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        return "heavy ball", *place(self.w, self.m, self.rates.descent), self.rates.decays

    def apply(self, backend: str) -> None:
        """See `RowUpdate`."""
        if self.rates.decays:
            kernels.mix(self.m, self.w, b=self.rates.decay, out=self.m, backend=backend)
        kernels.mix(self.w, self.m, b=self.rates.descent, out=self.w, backend=backend)


@dataclass(frozen=True)
class PlainStep:
    """A step of SGD along g, with the momentum m where there is some. All [K, trained]"""

    optimizer: Optimizer
    w: Tensor
    g: Tensor
    m: Tensor | None
    rates: Rates

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        raise TypeError("a step of its own is no part of a plan")

    def apply(self, backend: str) -> None:
        """See `RowUpdate`."""
        kernels.step(
            self.w,
            self.g,
            self.rates.eta,
            weight_decay=self.rates.decay,
            momentum=self.optimizer.momentum,
            nesterov=self.optimizer.nesterov,
            m=self.m,
            backend=backend,
        )


@dataclass(frozen=True)
class AdamStep:
    """A step of Adam along g; m and v are its moments. All [K, trained]"""

    optimizer: Adam
    w: Tensor
    g: Tensor
    m: Tensor
    v: Tensor
    rates: Rates

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        own = self.rates
        return self.optimizer, *place(self.w, self.g, self.m, self.v, own.t, own.eta, own.decay)

    def apply(self, backend: str) -> None:
        """See `RowUpdate`."""
        own, rates = self.optimizer, self.rates
        rows = self.w, self.g, self.m, self.v
        kernels.adam(
            *rows,
            rates.t,
            rates.eta,
            weight_decay=rates.decay,
            beta1=own.betas[0],
            beta2=own.betas[1],
            eps=own.eps,
            decoupled=own.decoupled,
            out=self.w,
            backend=backend,
        )
