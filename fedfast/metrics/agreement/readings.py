"""Numbers of the device that round metrics ask for: one wait for those of all shipped metrics.

A metric that is a generator function yields the tensors that it reads, and is sent their numbers:

@measures("far", "near")
def distances(seen: SeenRound) -> Read:
    (squares,) = yield [seen.squares]                  # arrays in float64, its own
    return {"far": squares.max(), "near": squares.min()}

Those of fedfast are begun before the wait that a round ends with. Code of the user's is called
behind it, for a round that counts, and waits for what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import isgenerator
from typing import cast

import numpy as np
from torch import Tensor

from ..._messages import format_value
from ...transfers import arrays_of
from .round_metrics import Read, RoundMetric
from .seen_round import SeenRound


class Reading:
    """One metric of one round.

    tensors  what it reads at first, where it is one of fedfast
    """

    def __init__(self, metric: RoundMetric, seen: SeenRound) -> None:
        self._metric, self._seen = metric, seen
        self._run: Read | None = None
        self._found: object = None
        self._begun = metric.shipped
        self.tensors = self._begin() if self._begun else ()

    def columns(self, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Its columns, given the numbers of `tensors`.

        Raises TypeError for a metric that yields anything but lists of tensors, and as
        `RoundMetric.named` does.
        """
        if not self._begun:
            found = arrays_of(*self._begin())
        while self._run is not None:
            found = arrays_of(*self._next(self._run, found))
        return self._metric.named(self._found)

    def _begin(self) -> Sequence[Tensor]:
        """Call it; what it reads first."""
        answer = self._metric.measure(self._seen)
        if not isgenerator(answer):
            self._found = answer
            return ()
        self._run = cast("Read", answer)
        return self._next(self._run, None)

    def _next(self, run: Read, found: Sequence[np.ndarray] | None) -> Sequence[Tensor]:
        """What it reads next; nothing at its end."""
        try:
            given = next(run) if found is None else run.send(found)
        except StopIteration as end:
            self._run, self._found = None, end.value
            return ()
        if isinstance(given, list | tuple) and all(isinstance(t, Tensor) for t in given):
            return given
        raise TypeError(
            f"metrics: {self._metric.name}: expected it to yield lists of tensors; got "
            f"{format_value(given)}"
        )


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
