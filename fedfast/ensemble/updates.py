"""What follows a gradient: the optimizer's step on K rows, as operations of a plan or alone."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from .. import kernels
from ..programs.plans import place


@dataclass(frozen=True)
class HeavyBall:
    """`w = w - eta m`, where products have left `momentum m + g` in m.

    w, m     [K, trained]
    descent  -eta [K]
    decay    weight decay [K], which joins m first; None for none
    """

    w: Tensor
    m: Tensor
    descent: Tensor
    decay: Tensor | None

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        decay = () if self.decay is None else place(self.decay)
        return "heavy ball", *place(self.w, self.m, self.descent), *decay

    def apply(self, backend: str) -> None:
        """See `RowUpdate`."""
        if self.decay is not None:
            kernels.mix(self.m, self.w, b=self.decay, out=self.m, backend=backend)
        kernels.mix(self.w, self.m, b=self.descent, out=self.w, backend=backend)
