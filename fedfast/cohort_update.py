"""`CohortUpdate`: what a call of `Cohort.train` did, its models as views of the live buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import kernels
from ._messages import format_value
from .cohort_state import StateRows
from .kernels import Server

ROUNDING = 1e-15  # relative; weights computed along two ways differ by so much


class Room:
    """Memory for rows [C, S] that updates share, one after another."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None

    def like(self, rows: Tensor) -> Tensor:
        """As many rows of the same make."""
        if self._rows is None or len(self._rows) < len(rows):
            self._rows = torch.empty_like(rows)
        return self._rows[: len(rows)]


@dataclass(frozen=True, eq=False)
class Summed:
    """What training has added up on its way: `acc = sum_k weights_k (v_k - start)`, float64 [S].

    weights  [C], in processing order
    """

    weights: Tensor
    acc: Tensor

    def of(self, weights: Tensor) -> Tensor | None:
        """The sum by these weights, a copy; None where they are others."""
        known = self.weights
        if weights.shape != known.shape or bool(((weights - known).abs() > ROUNDING * known).any()):
            return None
        return self.acc.clone()


@dataclass(eq=False)
class TrainedRows:
    """The models of a call, in the memory that the next call overwrites.

    processed  [C, S], in the order in which clients were trained
    place      [C], where in it each client of the call is; None: they are in order
    summed     what is known of their mean; None once somebody has had the rows to write to
    ordered    [C, S], those in the order of the call, once they were asked for
    """

    state: StateRows
    backend: str
    processed: Tensor
    place: Tensor | None
    room: Room
    summed: Summed | None
    ordered: Tensor | None = None
    overwritten: bool = False

    def in_order(self) -> Tensor:
        """See `CohortUpdate.models`."""
        self._check()
        self.summed = None
        if self.place is None:
            return self.processed
        if self.ordered is None:
            into = self.room.like(self.processed)
            self.ordered = torch.index_select(self.processed, 0, self.place, out=into)
        return self.ordered

    def as_processed(self) -> Tensor:
        """The same in the order in which clients were trained, which sums run in. [C, S]"""
        self._check()
        if self.place is not None and self.ordered is not None:
            self.processed[self.place] = self.ordered
        return self.processed

    def _check(self) -> None:
        if self.overwritten:
            raise RuntimeError(
                "update: its models are overwritten, for the cohort has trained since; copy what "
                "you keep, for example update.models.clone()"
            )


@dataclass(eq=False)
class CohortUpdate:
    """Models of the clients after their local steps, and what they saw, in the order of `ids`.

    Nothing is copied: models lie in the cohort's own buffers, which its next `train` overwrites;
    asked for after that they raise RuntimeError. What is written to `models`, or to views of it, is
    what `mean` and `step` read.

    ids       [C] int64
    start     [S], the model that was sent to the clients
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
    rows: TrainedRows

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        shape, lost = list(self.rows.processed.shape), len(self.diverged)
        return f"CohortUpdate({len(self)} clients, models {shape}, {lost} diverged)"

    @property
    def models(self) -> Tensor:
        """Rows after training, in the order of `ids`: a view. [C, S]

        Where clients take unequal numbers of steps, those with more are trained first, and the
        rows are put in order (one copy) when they are first asked for.
        """
        return self.rows.in_order()

    def updates(self) -> Tensor:
        """`models - start`, new memory. [C, S]"""
        return self.models - self.start

    def state_dict(self, j: int) -> dict[str, Tensor]:
        """The model of client `ids[j]` as a state dict of views; counters in their own dtype."""
        if isinstance(j, bool) or not isinstance(j, int | np.integer):
            raise TypeError(f"j: expected a position in ids; got {format_value(j)}")
        if not 0 <= j < len(self):
            raise IndexError(f"j: expected a position in ids, below {len(self)}; got {j}")
        return self.rows.state.tensors(self.models[j])

    def views(self) -> dict[str, Tensor]:
        """Name -> view [C, *shape] of all models; counters as the rows' floats."""
        return self.rows.state.layout.views(self.models)

    def mean(self, weights: Sequence[float] | np.ndarray | Tensor | None = None) -> Tensor:
        """The weighted mean of the models, as a new row [S]; sums in float64.

        weights  [C], by default the numbers of samples; only their ratios matter
        Counters are made whole as `load_state_dict` casts them.
        """
        held, start = self.rows, self.start
        given = self._weights(self.samples if weights is None else weights)
        if held.place is not None:
            given = torch.zeros_like(given).scatter_(0, held.place.cpu(), given)
        given, row = given.to(start.device), torch.empty_like(start)
        models, acc = held.as_processed(), None if held.summed is None else held.summed.of(given)
        if known := acc is not None:
            models, given = start[None], torch.zeros_like(given[:1])  # adds nothing to the sum
        kernels.aggregate(
            models,
            given,
            start,
            acc=torch.zeros_like(start, dtype=torch.float64) if acc is None else acc,
            first=not known,
            server=Server(),
            w=start,
            out=row,
            backend=held.backend,
        )
        held.state.layout.settle(row)
        return row

    def _weights(self, given: Sequence[float] | np.ndarray | Tensor) -> Tensor:
        """Shares of the clients [C], float64."""
        if not isinstance(given, Sequence | np.ndarray | Tensor) or isinstance(given, str):
            raise TypeError(f"weights: expected one per client; got {format_value(given)}")
        weights = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
        if weights.shape != (len(self),):
            raise ValueError(
                f"weights: expected one per client, [{len(self)}]; got {list(weights.shape)}"
            )
        if not bool((weights.isfinite() & (weights >= 0)).all()) or not float(weights.sum()):
            raise ValueError(
                f"weights: expected finite numbers >= 0, not all 0; got {weights.tolist()}"
            )
        return weights / weights.sum()
