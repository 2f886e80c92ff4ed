"""Contestants take turns; what other processes took meanwhile is told."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from simulators import Contestant, timed


def race(contestants: list[Contestant], rounds: int) -> tuple[list[list[float]], float]:
    """Seconds of every contestant's rounds 1..rounds, taking turns; round 0 is not counted.

    Also the share of the machine that others took meanwhile.
    """
    seconds: list[list[float]] = [[] for _ in contestants]
    before = Usage.now()
    for t in range(rounds + 1):
        for contestant, times in zip(contestants, seconds, strict=True):
            spent = timed(lambda c=contestant, t=t: c.play(t))
            if t > 0:
                times.append(spent)
    return seconds, Usage.now().elsewhere(before)


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far: available in all, spent by everybody, spent by this process."""

    available: float
    everybody: float
    own: float

    @classmethod
    def now(cls) -> Usage:
        """Read the clocks; without Linux's /proc nobody else is seen."""
        cores, own = os.cpu_count() or 1, time.process_time()
        try:
            user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:9]
        except OSError:
            return cls(cores * time.perf_counter(), own, own)
        ticks = sum(map(int, (user, nice, system, *interrupts)))
        return cls(cores * time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), own)

    def elsewhere(self, before: Usage) -> float:
        """The share of the available seconds that others have spent since `before`."""
        others = (self.everybody - before.everybody) - (self.own - before.own)
        return max(0.0, others / (self.available - before.available))
