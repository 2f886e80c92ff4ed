"""Rounds that are timed, in turns with those of a yardstick of one size.

How fast a machine is changes within seconds by a third and more: what its cores' other threads run,
their frequency, other tenants of the memory. It changes the rounds of every size alike. So every
visit to a row times some rounds of one fixed size as well, between its own, and rows are compared
by what their rounds take beside the yardstick's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..history import Row
from ..phases import Profile, recording

LEAST = 3  # rounds that are timed at least
PULSES = 3  # rounds of the yardstick at a time
TOGETHER = 200  # clients: rounds of so many in all follow one another
LOW = 0.25  # quantile of the rounds: what holds them up makes them slower, never faster


@dataclass
class InTurns:
    """An iterator of rounds; before some of them the yardstick's are timed.

    going, yard  rounds of the simulation, and of the yardstick, which is warm
    every        rounds of `going` that follow one another
    pulses       seconds of the yardstick's rounds
    """

    going: Iterator[Row]
    yard: Iterator[Row]
    every: int
    pulses: list[float] = field(default_factory=list)
    done: int = 0

    def __iter__(self) -> InTurns:
        return self

    def __next__(self) -> Row:
        self.pulse()
        return self.round()

    def pulse(self) -> None:
        """Rounds of the yardstick, where it is their turn."""
        if self.done % self.every == 0:
            self.pulses += [next(self.yard).seconds for _ in range(PULSES)]

    def round(self) -> Row:
        """The simulation's next. Raises ValueError where it is no training any more."""
        row = next(self.going)
        self.done += 1
        if row.status != "ok":
            raise ValueError(f"round {row.round}: {row.status}; lower lr, or give other data")
        return row


def low(seconds: Sequence[float]) -> float:
    """The lower quartile."""
    return float(np.quantile(seconds, LOW))


def timed(going: InTurns, rounds: int, seconds: float) -> Iterator[Row]:
    """Rounds until there are so many, or they have taken so long; at least three."""
    end = time.perf_counter() + seconds
    for i, row in enumerate(going):
        yield row
        late = time.perf_counter() > end
        if i + 1 >= rounds or (late and (i + 1 >= LEAST or row.seconds > seconds)):
            return


def profiled(going: InTurns, rounds: int) -> dict[str, float]:
    """Seconds of each phase in a round, and "other"; the yardstick's rounds are left out."""
    profile, rows = Profile(), []
    for _ in range(rounds):
        going.pulse()
        with recording(profile):
            rows.append(going.round())
    found: dict[str, float] = {k: v / len(rows) for k, v in profile.seconds().items()}
    whole = sum(row.seconds for row in rows) / len(rows)
    del found["evaluate"]
    return {**found, "other": max(0.0, whole - sum(found.values()))}


def scaled(phases: dict[str, float], seconds: float) -> dict[str, float]:
    """The same shares of `seconds`: timers take their time."""
    whole = sum(phases.values())
    return {name: taken * seconds / whole for name, taken in phases.items()}
