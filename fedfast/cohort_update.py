"""`CohortUpdate`: what a call of `Cohort.train` did, its models as views of the live buffers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from . import kernels
from ._messages import format_value
from .cohort_state import StateRows
from .kernels import Server


@dataclass(eq=False)
class CohortUpdate:
    """Models of the clients after their local steps, and what they saw, in the order of `ids`.

    Nothing is copied: models lie in the cohort's own buffers until its next `train`, which
    overwrites them. What is written to `models` or to views of it is what `mean` and `step` read.

    ids       [C] int64
    start     [S], the model that was sent to the clients; read only
    losses    [C] float64, mean over the samples seen, each at the model its gradient was taken at;
              nan where a client took no step
    batch_losses  the same as a mean over local steps, each for as much whatever its batch
    samples   [C] int64, own samples; steps [C] int64, local steps
    diverged  ids of clients whose model became non-finite: it is `start` here
    """

    ids: Tensor
    start: Tensor
    losses: Tensor
    batch_losses: Tensor
    samples: Tensor
    steps: Tensor
    diverged: tuple[int, ...]
    _state: StateRows = field(repr=False)
    _backend: str = field(repr=False)
    _processed: Tensor = field(repr=False)  # [C, S], in the order in which clients were trained
    _place: Tensor | None = field(repr=False)  # [C], where in it each client is; None: in order
    _ordered: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def models(self) -> Tensor:
        """Rows after training, in the order of `ids`: a view. [C, S]

        Where clients take unequal numbers of steps, those with more are trained first, and the
        rows are put in order (one copy) when they are first asked for.
        """
        if self._place is None:
            return self._processed
        if self._ordered is None:
            self._ordered = self._processed[self._place]
        return self._ordered

    def updates(self) -> Tensor:
        """`models - start`, new memory. [C, S]"""
        return self.models - self.start

    def state_dict(self, j: int) -> dict[str, Tensor]:
        """The model of client `ids[j]` as a state dict of views; counters in their own dtype."""
        if isinstance(j, bool) or not isinstance(j, int | np.integer):
            raise TypeError(f"j: expected a position in ids; got {format_value(j)}")
        if not -len(self) <= j < len(self):
            raise IndexError(f"j: expected a position below {len(self)}; got {j}")
        return self._state.tensors(self.models[j])

    def views(self) -> dict[str, Tensor]:
        """Name -> view [C, *shape] of all models; counters as the rows' floats."""
        return self._state.layout.views(self.models)

    def mean(self, weights: ArrayLike | None = None) -> Tensor:
        """The weighted mean of the models, as a new row [S]; sums in float64.

        weights  [C], by default the numbers of samples; only their ratios matter
        Counters are made whole as `load_state_dict` casts them.
        """
        given = self._weights(self.samples if weights is None else weights)
        place = self._place
        if place is not None:
            given = torch.zeros_like(given).scatter_(0, place.cpu(), given)
        row, start = torch.empty_like(self.start), self.start
        acc = torch.zeros_like(row, dtype=torch.float64)
        kernels.aggregate(
            self.processed(), given.to(row.device), start,
            acc=acc, server=Server(), w=start, out=row, backend=self._backend,
        )  # fmt: skip
        self._state.layout.settle(row)
        return row

    def _weights(self, given: ArrayLike | Tensor) -> Tensor:
        weights = torch.as_tensor(given).detach().cpu().to(torch.float64)
        if weights.shape != (len(self),):
            raise ValueError(
                f"weights: expected one per client, [{len(self)}]; got {list(weights.shape)}"
            )
        if not bool((weights.isfinite() & (weights >= 0)).all()) or not float(weights.sum()):
            raise ValueError(
                f"weights: expected finite numbers >= 0, not all 0; got {format_value(weights)}"
            )
        return weights / weights.sum()

    def processed(self) -> Tensor:
        """Rows in the order in which clients were trained, which sums run in. [C, S]"""
        if self._place is not None and self._ordered is not None:
            self._processed[self._place] = self._ordered
        return self._processed
