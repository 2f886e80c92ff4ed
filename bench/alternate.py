"""Interleaved timing: what is compared takes turns, so that a busy machine slows all alike."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

Action = Callable[[], object]


def alternate(
    actions: Mapping[str, Action],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.thread_time,
    before: Action = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of every action in each of `rounds` rounds, after `warm_up` that are not counted.

    clock   CPU time of the thread, in which other processes hardly show, or another clock
    before  runs before each action, outside of its time
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warm_up + rounds):
        for name, action in actions.items():
            before()
            start = clock()
            action()
            spent = clock() - start
            if turn >= warm_up:
                seconds[name].append(spent)
    return seconds


def alternate_rounds(
    simulators: Sequence[Callable[[int], object]], rounds: int
) -> tuple[list[list[float]], float]:
    """Seconds of rounds 1 to `rounds` of each, taking turns; round 0 warms up and is not counted.

    Also the share of the machine that other processes took meanwhile.
    """

    def action(run_round: Callable[[int], object]) -> Action:
        numbers = itertools.count()
        return lambda: run_round(next(numbers))

    before = Usage.now()
    actions = {str(i): action(run_round) for i, run_round in enumerate(simulators)}
    seconds = alternate(actions, rounds, clock=time.perf_counter)
    return list(seconds.values()), Usage.now().elsewhere(before)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads inside torch's operations, and the former number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far: available in all, spent by all processes, spent by this one."""

    available: float
    all_processes: float
    own: float

    @classmethod
    def now(cls) -> Usage:
        """Read the clocks; without Linux's /proc other processes are not counted."""
        cores, own = os.cpu_count() or 1, time.process_time()
        try:
            user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:9]
        except OSError:
            return cls(cores * time.perf_counter(), own, own)
        ticks = sum(map(int, (user, nice, system, *interrupts)))
        return cls(cores * time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), own)

    def elsewhere(self, before: Usage) -> float:
        """The share of the available seconds that other processes have spent since `before`."""
        others = (self.all_processes - before.all_processes) - (self.own - before.own)
        return max(0.0, others / (self.available - before.available))
