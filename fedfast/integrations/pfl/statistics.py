"""Users' statistics that are computed when a tensor is read, and their sum over a whole chunk.

Where nothing reads a single user's difference (a weighting reads none, privacy mechanisms read all)
the weighted sum over the users is taken from the cohort's rows in one pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pfl.aggregate.base import SumAggregator
from pfl.internal.ops.selector import get_default_framework_module
from pfl.stats import MappedVectorStatistics, StatisticsType
from torch import Tensor

from .user_parameters import UserParameters


class RowStatistics(MappedVectorStatistics):
    """pfl's statistics of one user: `factor * (row - start)` until a tensor is asked for.

    user, row  whose difference, and where it is written; None: like any statistics
    """

    def __init__(
        self,
        name_to_stats: dict[str, Tensor] | None = None,
        weight: float = 1.0,
        user: UserParameters | None = None,
        row: Tensor | None = None,
    ) -> None:
        self._tensors: dict[str, Tensor] = {}
        self.pending, self.row, self.factor = user, row, 1.0
        self.is_copy, self.copies = False, list[RowStatistics]()
        super().__init__(name_to_stats, weight)

    @property
    def _data(self) -> dict[str, Tensor]:  # where pfl's class keeps and reads its tensors
        if self.pending is not None:
            user, self.pending = self.pending, None
            assert self.row is not None
            torch.sub(*user.trained, out=self.row)
            if self.factor != 1.0:
                self.row.mul_(self.factor)
        return self._tensors

    @_data.setter
    def _data(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def apply_elementwise(
        self, fn: Callable[..., Tensor], *args: object, **kwargs: object
    ) -> MappedVectorStatistics:
        """As pfl's. A copy is computed when it is read too, in memory of its own."""
        if (
            self.pending is None
            or self.row is None
            or fn is not get_default_framework_module().clone
        ):
            return super().apply_elementwise(fn, *args, **kwargs)
        row = torch.empty_like(self.row)
        named = self.pending.layout.views(row, trained_only=True)
        copy = RowStatistics(
            {name: named[name] for name in self._tensors}, self.weight, self.pending, row
        )
        copy.factor, copy.is_copy = self.factor, True
        self.copies.append(copy)
        return copy

    def take(self) -> tuple[UserParameters, float]:
        """What is pending and its factor, leaving zeros."""
        assert self.pending is not None and self.row is not None
        taken = self.pending, self.factor
        self.pending, self.factor = None, 1.0
        self.row.zero_()
        return taken

    def finish(self) -> None:
        """Compute the copies that nobody has read, before the user's parameters go."""
        for copy in self.copies:
            copy.values()
            copy.finish()

    def __reduce__(self) -> tuple[type, tuple[dict[str, Tensor], float]]:
        """Saved as pfl's class: a user's state may be one of these."""
        return MappedVectorStatistics, (dict(self.items()), self.weight)

    def reweight(self, new_weight: float) -> None:
        """As pfl's: values times new over old weight, in place."""
        if self.pending is None:
            super().reweight(new_weight)
            return
        self.factor *= float(new_weight / self.weight)
        self._weight: float = new_weight


PLAIN = MappedVectorStatistics, RowStatistics  # sums of tensors, without weights of their own


class CohortSum(SumAggregator):
    """pfl's sum. Users whose statistics nobody has read are added together, by `settle`."""

    def __init__(self) -> None:
        self._total: MappedVectorStatistics | None = None
        self._users: list[tuple[UserParameters, float]] = []

    def accumulate(
        self, *, accumulated: StatisticsType | None, user_stats: StatisticsType
    ) -> StatisticsType:
        """`user_stats + accumulated`; `accumulated` may lack users until `settle`."""
        unread = isinstance(user_stats, RowStatistics) and user_stats.pending is not None
        if unread and accumulated is None and user_stats.is_copy:
            self._users.append(user_stats.take())
            self._total = user_stats
            return user_stats
        if not unread or type(accumulated) not in PLAIN:
            self.settle()
            return super().accumulate(accumulated=accumulated, user_stats=user_stats)
        assert isinstance(accumulated, MappedVectorStatistics)
        self._total = accumulated
        self._users.append((user_stats.pending, user_stats.factor))
        accumulated.weight = user_stats.weight + accumulated.weight
        return accumulated

    def forget(self) -> None:
        """Drop the users that are waiting: their round has ended in an exception."""
        self._total, self._users = None, []

    def settle(self) -> None:
        """Add the users that are waiting, before the cohort's rows are overwritten."""
        users, self._users = self._users, []
        if not users:
            return
        assert self._total is not None
        weights = torch.zeros(len(users[0][0].update), dtype=torch.float64)
        for user, factor in users:
            weights[user.j] += factor
        whole = float(weights.sum())
        if whole:
            difference = users[0][0].weighted_difference(weights)
            for name, total in self._total.items():
                total.add_(difference[name], alpha=whole)
