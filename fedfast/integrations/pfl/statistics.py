"""A user's statistics in one row, and their sum over users in place; values as pfl's."""

from __future__ import annotations

from pfl.aggregate.base import SumAggregator
from pfl.stats import MappedVectorStatistics, StatisticsType
from torch import Tensor


class RowStatistics(MappedVectorStatistics):
    """`MappedVectorStatistics` whose tensors are views of one `row`: it is weighted at once."""

    def __init__(
        self,
        name_to_stats: dict[str, Tensor] | None = None,
        weight: float = 1.0,
        row: Tensor | None = None,
    ) -> None:
        super().__init__(name_to_stats, weight)
        self.row = row

    def __reduce__(self) -> tuple[type, tuple[dict[str, Tensor], float]]:
        """Saved as pfl's class: a user's state may be one of these."""
        return MappedVectorStatistics, (dict(self.items()), self.weight)

    def __setitem__(self, key: str, value: Tensor) -> None:
        self.row = None  # a tensor elsewhere
        super().__setitem__(key, value)

    def reweight(self, new_weight: float) -> None:
        """As pfl's: values times new over old weight, in place."""
        if self.row is None:
            super().reweight(new_weight)
            return
        multiplier = float(new_weight / self.weight)
        if multiplier != 1.0:
            self.row.mul_(multiplier)
        self.weight = new_weight


class SumInPlace(SumAggregator):
    """pfl's sum without new memory for every user; the backend hands it a first user's copy."""

    def accumulate(
        self, *, accumulated: StatisticsType | None, user_stats: StatisticsType
    ) -> StatisticsType:
        """`user_stats + accumulated`."""
        parts = accumulated, user_stats
        if not all(isinstance(part, MappedVectorStatistics) and _dense(part) for part in parts):
            return super().accumulate(accumulated=accumulated, user_stats=user_stats)
        if accumulated.keys() != user_stats.keys():
            return super().accumulate(accumulated=accumulated, user_stats=user_stats)
        for name, total in accumulated.items():
            total.add_(user_stats[name])
        accumulated.weight = user_stats.weight + accumulated.weight
        return accumulated


def _dense(statistics: MappedVectorStatistics) -> bool:
    known = type(statistics) in (MappedVectorStatistics, RowStatistics)
    return known and all(isinstance(t, Tensor) for t in statistics.values())
