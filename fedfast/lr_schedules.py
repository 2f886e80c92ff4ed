"""Values that change over rounds: a learning rate's decay, a radius's ramp.

Wherever a paper gives a schedule (`lr`, `rho`), a number or one of these will do; any callable
round -> number will do, these ones can be written in a config:

>>> ramp = Ramp(start=0.001, end=0.15, rounds=2000)
>>> ramp(0), ramp(1000), ramp(5000)
(0.001, 0.0755, 0.15)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import ClassVar

from ._messages import format_value
from .registry import Registry

Schedulable = float | Callable[[int], float]
SCHEDULES = Registry[Callable[..., Callable[[int], float]]](
    "schedule",
    "a dataclass whose objects are callables round -> number",
    lambda thing: is_dataclass(thing) and callable(thing),
)


@SCHEDULES.register("ramp")
@dataclass(frozen=True)
class Ramp:
    """Linear from `start` in round 0 to `end` in round `rounds`, then `end`."""

    start: float
    end: float
    rounds: int

    name: ClassVar[str] = "ramp"

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, t: int) -> float:
        """The value in round `t`, from 0."""
        if t >= self.rounds:
            return self.end
        return self.start + (self.end - self.start) * t / self.rounds


@SCHEDULES.register("exponential")
@dataclass(frozen=True)
class Exponential:
    """`start * decay^t`: a learning rate that shrinks by a factor per round."""

    start: float
    decay: float

    name: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, t: int) -> float:
        """The value in round `t`, from 0."""
        return self.start * self.decay**t


@SCHEDULES.register("cosine")
@dataclass(frozen=True)
class Cosine:
    """`end + (start - end) (1 + cos(pi t / rounds)) / 2`, then `end`."""

    start: float
    rounds: int
    end: float = 0.0

    name: ClassVar[str] = "cosine"

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, t: int) -> float:
        """The value in round `t`, from 0."""
        turn = math.pi * min(t, self.rounds) / self.rounds
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(turn))


Schedule = Ramp | Exponential | Cosine


def at_round(value: Schedulable, t: int) -> float:
    """A number, or a schedule's value in round `t`; ValueError unless that is finite and >= 0."""
    if not callable(value):
        return value
    found = float(value(t))
    if not (math.isfinite(found) and found >= 0):
        raise ValueError(
            f"schedule: expected a finite number >= 0 in round {t}; got {format_value(found)}"
        )
    return found


def _check(schedule: Schedule) -> None:
    """Raise unless all fields are finite numbers >= 0, and `rounds` an integer >= 1."""
    for field in fields(schedule):
        value, whole = getattr(schedule, field.name), field.name == "rounds"
        symbol = f"{schedule.name}, {field.name}"
        expected = "an integer >= 1" if whole else "a finite number >= 0"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise TypeError(f"{symbol}: expected {expected}; got {format_value(value)}")
        finite = value.bit_length() < 1024 if isinstance(value, int) else math.isfinite(value)
        if not (finite and value >= int(whole)):
            raise ValueError(f"{symbol}: expected {expected}; got {format_value(value)}")
