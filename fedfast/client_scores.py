"""How models do on the clients' own test parts: counts, and statistics over the clients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .validation.values import Share

if TYPE_CHECKING:
    import pandas as pd

WORST = 0.1  # share of the clients whose mean the history holds


@dataclass(frozen=True)
class ClientScores:
    """Correct predictions on every client's own test part.

    tested         [N] int64, samples of each test part
    common         [N], how many of them the global model gets right (no whole number where
                   predictions may be right in part, as with several labels each; nan where there
                   is no accuracy)
    personal       [N], the client's personal model; None where there are no personal models
    loss           [N] float64, mean loss of the global model, nan for clients without test samples;
                   None in rounds of a run without `client_metrics`
    personal_loss  [N] float64, that of the personal models; None without them
    """

    tested: np.ndarray
    common: np.ndarray
    personal: np.ndarray | None
    loss: np.ndarray | None = None
    personal_loss: np.ndarray | None = None

    @property
    def accuracy(self) -> np.ndarray:
        """The global model's accuracy on each client. [N] float64, nan without test samples"""
        return _shares(self.common, self.tested)

    @property
    def personal_accuracies(self) -> np.ndarray | None:
        """Each personal model's accuracy. [N] float64; None where there are no personal models"""
        return None if self.personal is None else _shares(self.personal, self.tested)

    @property
    def personal_accuracy(self) -> float:
        """Mean over the clients that have test samples, each with its personal model."""
        return _mean(self.personal, self.tested)

    @property
    def personal_pooled(self) -> float:
        """The share of all test samples that the personal models get right."""
        return _pooled(self.personal, self.tested)

    @property
    def local_accuracy(self) -> float:
        """Mean over the clients that have test samples, all with the global model."""
        return _mean(self.common, self.tested)

    @property
    def pooled_accuracy(self) -> float:
        """The share of all test samples that the global model gets right."""
        return _pooled(self.common, self.tested)

    def std(self, personal: bool = False) -> float:
        """Standard deviation of the accuracy over the clients that have test samples.

        sqrt(sum_k (a_k - mean a)^2 / n): of all n clients, not an estimate from some.

        personal  of the personal models in place of the global one; nan where there are none
        """
        found = self._known(personal)
        return float(found.std()) if len(found) else math.nan

    def worst(self, share: float = WORST, personal: bool = False) -> float:
        """Mean accuracy of the ceil(share n) clients with the lowest, of n that have test samples.

        personal  of the personal models in place of the global one; nan where there are none
        """
        Share()("share", share)
        found = np.sort(self._known(personal))  # nan, where there is no accuracy, stays nan
        # As a fraction: 0.1 * 70 is more than 7 in floating point, whose ceiling would be 8.
        count = math.ceil(Fraction(repr(float(share))) * len(found))
        return float(found[:count].mean()) if len(found) else math.nan

    def columns(self) -> dict[str, float]:
        """The figures of all clients under the names of a `Row`."""
        names = ("personal_accuracy", "personal_pooled", "local_accuracy", "pooled_accuracy")
        spread = {"local_std": self.std(), "local_worst": self.worst()}
        own = {"personal_std": self.std(True), "personal_worst": self.worst(personal=True)}
        return {**{name: getattr(self, name) for name in names}, **spread, **own}

    def to_pandas(self) -> pd.DataFrame:
        """A line for each client that has test samples, indexed by its number `client`.

        Columns: samples, accuracy, loss, and where there are personal models personal_accuracy,
        personal_loss. Losses are left out where they were not computed.
        """
        import pandas as pd

        columns = {"accuracy": self.accuracy, "loss": self.loss}
        columns |= {
            "personal_accuracy": self.personal_accuracies,
            "personal_loss": self.personal_loss,
        }
        given = {name: column for name, column in columns.items() if column is not None}
        frame = pd.DataFrame({"samples": self.tested, **given}).rename_axis("client")
        return frame[self.tested > 0]

    def _known(self, personal: bool) -> np.ndarray:
        """Accuracies of the clients that have test samples; none where there are no such models."""
        found = self.personal_accuracies if personal else self.accuracy
        return np.empty(0) if found is None else found[self.tested > 0]


def _shares(correct: np.ndarray, tested: np.ndarray) -> np.ndarray:
    some = tested > 0
    return np.divide(correct, tested, out=np.full(len(tested), np.nan), where=some)


def _mean(correct: np.ndarray | None, tested: np.ndarray) -> float:
    some = tested > 0
    return float("nan") if correct is None else float((correct[some] / tested[some]).mean())


def _pooled(correct: np.ndarray | None, tested: np.ndarray) -> float:
    return float("nan") if correct is None else float(correct.sum() / tested.sum())
