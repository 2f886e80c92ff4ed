"""Early stopping: the run ends when a column of the history gets no better any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..history import Row
from ..validation.values import Count, Number
from .base import CALLBACKS, RunInfo
from .best_so_far import TESTED, BestSoFar, OfColumn

if TYPE_CHECKING:
    from .base import Sim


@CALLBACKS.register("early_stopping")
class EarlyStopping(OfColumn):
    """Ends a run once `patience` values of a column in a row were no better than the best before.

    metric     a column of history.csv, of the run's metrics too; of accuracy and loss only tested
               rounds have values
    patience   so many values in a row without a better one end the run
    min_delta  a value is better if it is so by more than this
    mode       whether more is better: max, min, or auto by the column's name

    It is decided from `sim.history` alone: a resumed run ends in the round it would have ended in,
    and one that has ended so stays ended until the patience is larger.
    Raises ValueError/TypeError naming the argument.
    """

    def __init__(
        self,
        metric: str = "accuracy",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
    ) -> None:
        super().__init__(metric, mode)
        Count()("patience", patience)
        Number(ge=0)("min_delta", min_delta)
        self.patience, self.min_delta = patience, min_delta
        self._best = self._nothing()

    def on_start(self, sim: Sim, run: RunInfo) -> None:
        """The rounds done before count. Raises ValueError where there will be no values."""
        super().on_start(sim, run)
        if self.metric in TESTED and not sim.has_tests:
            raise ValueError(
                f"early_stopping: metric: expected a column with values; {self.metric} is nan: the "
                "run has no test set"
            )
        self._best = self._nothing().see_all(sim.history)
        self._stop(sim)

    def on_round_end(self, sim: Sim, row: Row) -> None:
        """Stops the run where it is time."""
        self._best.see(row)
        self._stop(sim)

    def on_evaluate(self, sim: Sim, row: Row) -> None:
        """Raises ValueError where a test gives no such value: the run would never end early."""
        if self._best.row is None and self.metric in TESTED and row.status == "ok":
            raise ValueError(
                f"early_stopping: metric: expected a column with values; {self.metric} is nan in "
                f"round {row.round}, which was tested"
            )

    def _nothing(self) -> BestSoFar:
        return BestSoFar(self.metric, self.sign, self.min_delta)

    def _stop(self, sim: Sim) -> None:
        best = self._best
        if best.row is not None and best.since >= self.patience:
            value = f"{best.value(best.row):.5g}"
            sim.stop(f"early stopping: {self.metric} {value} of round {best.row.round} stays best")
