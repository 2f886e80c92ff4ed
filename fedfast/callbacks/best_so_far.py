"""The best value of a column so far: what early stopping and the best model are decided by.

It follows from the rows of the history alone, so that a run that was killed and resumed decides as
one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import better
from ..history import Row, cells
from .base import Callback, RunInfo

if TYPE_CHECKING:
    from .base import Sim

# Columns that only tests of models fill in.
SPREAD = {"local_std", "personal_std"}
TESTED = {name for name in better.COLUMNS if name.endswith(better.MORE)} | SPREAD | {"loss"}


class OfColumn(Callback):
    """A callback that looks at one column of the history.

    metric  a column of every history, or of the run's metrics
    mode    whether more is better: max, min, or auto by the column's name
    sign    1 where more is better, -1 where less is
    Raises ValueError/TypeError naming the argument; a column that no run has is told by a config,
    or before round 1.
    """

    def __init__(self, metric: str, mode: str) -> None:
        if not isinstance(metric, str):
            better.check_column("metric", metric, ())
        self.metric, self.mode = metric, mode
        self.sign = better.sign(better.directed(metric, mode))

    def check_column(self, columns: Iterable[str]) -> None:
        """Raises ValueError unless the metric is one of the columns of a run."""
        better.check_column("metric", self.metric, columns)

    def on_start(self, sim: Sim, run: RunInfo) -> None:
        """Raises ValueError for a column that the history will not have."""
        self.check_column(sim.columns)


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
        value = self.value(row)
        if math.isnan(value):
            return False
        if self.row is None or self.sign * (value - self.value(self.row)) > self.delta:
            self.row, self.since = row, 0
            return True
        self.since += 1
        return False

    def value(self, row: Row) -> float:
        """A row's value, nan where it has none."""
        found = cells(row, (self.metric,))[0]
        assert isinstance(found, float)
        return found

    def see_all(self, rows: Iterable[Row]) -> BestSoFar:
        """The same of several rows, oldest first."""
        for row in rows:
            self.see(row)
        return self
