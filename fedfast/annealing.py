"""Values that change over rounds: a learning rate's decay, a radius's ramp.

Wherever a paper gives a schedule (`lr`, `rho`), a number or one of these may stand; any callable
round -> number will do, these ones can be written in a config:

>>> ramp = Ramp(start=0.001, end=0.15, rounds=2000)
>>> ramp(0), ramp(1000), ramp(5000)
(0.001, 0.0755, 0.15)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

Schedulable = float | Callable[[int], float]


@dataclass(frozen=True)
class Ramp:
    """Linear from `start` in round 0 to `end` in round `rounds`, then `end`."""

    start: float
    end: float
    rounds: int

    name: ClassVar[str] = "ramp"

    def __call__(self, t: int) -> float:
        """The value in round `t`, from 0."""
        if t >= self.rounds:
            return self.end
        return self.start + (self.end - self.start) * t / self.rounds


@dataclass(frozen=True)
class Exponential:
    """`start * decay^t`: a learning rate that shrinks by a factor per round."""

    start: float
    decay: float

    name: ClassVar[str] = "exponential"

    def __call__(self, t: int) -> float:
        """The value in round `t`, from 0."""
        return self.start * self.decay**t


@dataclass(frozen=True)
class Cosine:
    """`end + (start - end) (1 + cos(pi t / rounds)) / 2`, then `end`."""

    start: float
    rounds: int
    end: float = 0.0

    name: ClassVar[str] = "cosine"

    def __call__(self, t: int) -> float:
        """The value in round `t`, from 0."""
        turn = math.pi * min(t, self.rounds) / self.rounds
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(turn))


SCHEDULES = {kind.name: kind for kind in (Ramp, Exponential, Cosine)}


def at_round(value: Schedulable, t: int) -> float:
    """A number, or a schedule's value in round `t`."""
    return float(value(t)) if callable(value) else value
