"""Numbers of the device that round metrics ask for: one wait for those of all metrics.

A metric that is a generator function yields the tensors that it reads, and is sent their numbers:

@measures("far", "near")
def distances(seen: SeenRound) -> Read:
    (squares,) = yield [seen.squares]                  # arrays in float64
    return {"far": squares.max(), "near": squares.min()}

Any other metric is called behind that wait, and waits for what it reads itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import isgeneratorfunction
from typing import cast

import numpy as np
from torch import Tensor

from ...transfers import arrays_of
from .round_metrics import Read, RoundMetric
from .seen_round import SeenRound


class Reading:
    """One metric of one round.

    tensors  what it reads at first
    """

    def __init__(self, metric: RoundMetric, seen: SeenRound) -> None:
        self._metric, self._seen = metric, seen
        self._run: Read | None = None
        self._found: object = None
        self.tensors: Sequence[Tensor] = ()
        if isgeneratorfunction(metric.measure):
            self._run = cast("Read", metric.measure(seen))
            self.tensors = self._next(None)

    def columns(self, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Its columns, given the numbers of `tensors`. Raises as `RoundMetric.named` does."""
        if not isgeneratorfunction(self._metric.measure):
            return self._metric.named(self._metric.measure(self._seen))
        while self._run is not None:
            found = arrays_of(*self._next(found))
        return self._metric.named(self._found)

    def _next(self, found: Sequence[np.ndarray] | None) -> Sequence[Tensor]:
        """What it reads next; nothing at its end."""
        assert self._run is not None
        try:
            return next(self._run) if found is None else self._run.send(found)
        except StopIteration as end:
            self._run, self._found = None, end.value
            return ()


@dataclass(frozen=True)
class Readings:
    """All metrics of a round."""

    of: Sequence[Reading]

    @property
    def tensors(self) -> list[Tensor]:
        """What they read at first."""
        return [t for reading in self.of for t in reading.tensors]

    def columns(self, found: Sequence[np.ndarray]) -> dict[str, float]:
        """The columns of all metrics, given the numbers of `tensors`."""
        left, columns = list(found), dict[str, float]()
        for reading in self.of:
            count = len(reading.tensors)
            columns |= reading.columns(left[:count])
            del left[:count]
        return columns
