"""What round metrics need of a cohort, taken while its models are added up.

    |u_k|^2                      read off the pass of the mean
    sum_k l_k u_k / |u_k|        one more pass, in the mean's order of additions
    v_k of the measured clients  copied, unless the cohort is one chunk

In a run without metrics there is no `Watch`, and the mean is a plain `Mean`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ... import kernels
from ...algorithms import Algorithm
from ...algorithms.hooks import Cohort, ServerView, TrainedLayout
from ...distributed.ranks import Ranks
from ...distributed.shares import Shares
from ...kernels import Column
from ...running_sum import Place, RunningSum
from .measured_models import MeasuredModels, measured_clients
from .readings import Reading, Readings
from .round_metrics import RoundMetric
from .seen_round import SeenRound


def watched_bytes(metrics: Sequence[RoundMetric], trained: int, row: Tensor, cohort: int) -> int:
    """Bytes that metrics keep to a round's end: models, and the sum of directions."""
    needs = {need for metric in metrics for need in metric.needs}
    each = trained * row.element_size()
    models = measured_clients(cohort, each) * each if "models" in needs else 0
    return models + (8 * trained if "directions" in needs else 0)


class Watch:
    """Of one engine: what its rounds' cohorts have shown so far.

    squares  [C] float64
    sums     running sums over the cohort, beside the mean's
    """

    def __init__(self, metrics: Sequence[RoundMetric], layout: TrainedLayout, backend: str) -> None:
        self.metrics, self.layout, self.backend = tuple(metrics), layout, backend
        needs = {need for metric in metrics for need in metric.needs}
        self._directs = "directions" in needs
        self._kept = MeasuredModels(layout.trained) if "models" in needs else None
        self.plain = torch.zeros((), dtype=torch.float64)
        self._sum: RunningSum | None = None
        self.squares = self.lengths = torch.zeros(0, dtype=torch.float64)

    def begin(self, cohort: Cohort, row: Tensor, everybody: bool) -> None:
        """Before the first chunk. everybody: the server's rule reads all models, and so do we."""
        clients = len(cohort)
        self.squares = torch.zeros(clients, dtype=torch.float64, device=row.device)
        self.lengths = torch.zeros_like(self.squares)
        if self._directs and self._sum is None:
            self._sum = RunningSum(row[: self.layout.trained])
        if self._kept is not None:
            self._kept.begin(cohort.ids, row, everybody)

    @property
    def sums(self) -> list[RunningSum]:
        """Those that ranks complete."""
        return [] if self._sum is None else [self._sum]

    @property
    def directions(self) -> Tensor | None:
        """See `SeenRound.directions`."""
        return None if self._sum is None else self._sum.lowest

    @property
    def measured(self) -> Tensor:
        """Positions of the clients whose models are kept. [M]"""
        picked = np.zeros(0, np.int64) if self._kept is None else self._kept.picked
        return torch.from_numpy(picked)

    @property
    def models(self) -> Tensor | None:
        """See `SeenRound.models`."""
        return None if self._kept is None else self._kept.models

    def see(self, models: Tensor, squares: Tensor, sent: Tensor, place: Place) -> None:
        """A chunk's models [K, S], their `|u_k|^2` [K]."""
        part, trained = slice(place.at, place.at + len(models)), self.layout.trained
        self.squares[part] = squares
        if self._sum is not None:
            self._direct(self._sum, models[:, :trained], squares, sent[:trained], place)
        if self._kept is not None:
            self._kept.keep(models[:, :trained], part)

    def summed(self, mean: Tensor) -> None:
        """Before a rule reweighs the mean update [trained]."""
        self.plain = kernels.stats(mean[None], backend=self.backend)[0, 0, Column.XX]

    def complete(self, ranks: Ranks, shares: Shares) -> None:
        """Take over what other ranks have seen, their sums aside."""
        parts = [shares.part(rank) for rank in range(ranks.size)]
        own = parts[ranks.rank]
        found = ranks.gathered((self.squares[own].cpu(), self.lengths[own].cpu()))
        for part, (squares, lengths) in zip(parts, found, strict=True):
            self.squares[part], self.lengths[part] = squares, lengths
        if self._kept is not None:
            self._kept.complete(ranks, parts, self.layout.dtype, self.squares.device)

    def readings(
        self,
        algorithm: Algorithm,
        cohort: Cohort,
        before: ServerView,
        after: ServerView,
        sent: Tensor,
        mean: Tensor,
    ) -> Readings:
        """All metrics, once the server has made its step: what they read of the device."""
        trained = self.layout.trained
        seen = SeenRound(
            algorithm, self.layout, self.backend, cohort, before, after, sent[:trained], mean,
            self.squares, self.plain, self.directions, self.lengths, self.models, self.measured,
        )  # fmt: skip
        return Readings([Reading(metric, seen) for metric in self.metrics])

    def nothing(self) -> dict[str, float]:
        """The columns of a round that came to nothing."""
        return {name: v for metric in self.metrics for name, v in metric.nothing().items()}

    def _direct(
        self, total: RunningSum, models: Tensor, squares: Tensor, sent: Tensor, place: Place
    ) -> None:
        # Rounded to the rows' type as the operation takes it, so that `lengths` is exact.
        weights = torch.where(squares > 0.0, squares.rsqrt(), 0.0).to(models.dtype)
        self.lengths[place.at : place.at + len(models)] = weights.double() * squares.sqrt()
        kernels.aggregate(
            models,
            weights,
            sent,
            acc=total.lowest,
            nodes=total.above(len(models), place),
            at=place.at,
            of=place.of,
            begin=place.begin,
            backend=self.backend,
        )
