"""What the server of an algorithm keeps between rounds, and what it is answered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ... import kernels
from ...algorithms import ServerView


@dataclass
class ServerRows(ServerView):
    """The server's rows between two rounds; `v` is the rule's second moment."""

    w: Tensor
    m: Tensor | None
    v: Tensor | None
    rows: dict[str, Tensor]
    values: dict[str, Tensor]
    scalars: dict[str, float]
    pending: dict[str, Tensor] = field(default_factory=dict)

    def copy(self, w: Tensor) -> ServerRows:
        """The same around another model [trained]."""
        m, v = (None if t is None else t.clone() for t in (self.m, self.v))
        rows = {name: t.clone() for name, t in self.rows.items()}
        return ServerRows(w, m, v, rows, {}, dict(self.scalars))

    def finite(self) -> bool:
        """Whether everything that will be read again is."""
        kept = (self.w, self.m, self.v, *self.rows.values())
        return all(bool(finite(t[None])) for t in kept if t is not None)


@dataclass(frozen=True)
class Replies:
    """What the clients of a round sent back.

    models  [C, S] in the layout of the model; ids [C] by which rules order them; sizes [C] samples
    """

    models: Tensor
    ids: np.ndarray
    sizes: Tensor


def finite(rows: Tensor) -> Tensor:
    """Which rows hold finite numbers alone. [K, S] -> [K] bool"""
    return kernels.stats(rows)[:, 0, kernels.Column.NONFINITE] == 0
