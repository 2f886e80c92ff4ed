"""What the server of an algorithm keeps between rounds, and what it is answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

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

    def copy(self, w: Tensor) -> ServerRows:
        """The same around another model [trained]."""
        m, v = (None if t is None else t.clone() for t in (self.m, self.v))
        rows, values = ({k: t.clone() for k, t in d.items()} for d in (self.rows, self.values))
        return ServerRows(w, m, v, rows, values, dict(self.scalars))

    def finite(self) -> bool:
        """Whether everything that will be read again is."""
        kept = (self.w, self.m, self.v, *self.rows.values(), *self.values.values())
        return all(bool(t.isfinite().all()) for t in kept if t is not None)


@dataclass(frozen=True)
class Replies:
    """What the clients of a round sent back.

    models  [C, S] in the layout of the model; ids [C] by which rules order them; sizes [C] samples
    """

    models: Tensor
    ids: np.ndarray
    sizes: Tensor
