"""The best value of a column so far: what early stopping and the best model are decided by.

It follows from the rows of the history alone, so that a run that was killed and resumed decides as
one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from .._messages import unknown
from ..history import READ, Row

COLUMNS = tuple(name for name, kind in READ.items() if kind is float)
MODES = ("auto", "max", "min")
# Columns that only tests of models fill in.
SPREAD = {"local_std", "personal_std"}
MORE = {name for name in COLUMNS if name.endswith(("accuracy", "pooled", "worst"))}
TESTED = MORE | SPREAD | {"loss"}


def direction(metric: object, mode: object) -> float:
    """1 where more is better, -1 where less is. Raises ValueError for what is neither."""
    if metric not in COLUMNS:
        raise unknown("metric", metric, COLUMNS)
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if mode == "auto":
        return 1.0 if metric in MORE or metric == "clients_per_second" else -1.0
    return 1.0 if mode == "max" else -1.0


@dataclass
class BestSoFar:
    """The best row of those seen.

    sign   1 where more is better, -1 where less is
    delta  by how much a value must be better to count
    row    of the best value, None before the first value
    since  rows with a value after it
    """

    metric: str
    sign: float
    delta: float = 0.0
    row: Row | None = field(default=None, init=False)
    since: int = field(default=0, init=False)

    def see(self, row: Row) -> bool:
        """Whether this row is better than all before it; one without a value counts for nothing."""
        value = getattr(row, self.metric)
        if math.isnan(value):
            return False
        if self.row is None or self.sign * (value - getattr(self.row, self.metric)) > self.delta:
            self.row, self.since = row, 0
            return True
        self.since += 1
        return False

    def see_all(self, rows: Iterable[Row]) -> BestSoFar:
        """The same of several rows, oldest first."""
        for row in rows:
            self.see(row)
        return self
