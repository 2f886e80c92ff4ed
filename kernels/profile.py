"""Times of native operations, kept in the compiled module while a profile is on.

Indices stand for phases: those of `fedfast.phases.PHASES`. Every function does nothing, or answers
with nothing, where there is no compiled module.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from . import native


class OperationTotal(NamedTuple):
    """All calls of one operation since the last `take`, of all threads together.

    phase  it was called in, or recorded in where a plan ran it; -1: none
    under  the phase whose plan ran it; -1: none, it was called directly
    name   the operation's, or "plan" for a plan's whole run
    """

    name: str
    phase: int
    under: int
    calls: int
    nanoseconds: int


class OperationCall(NamedTuple):
    """One call; begin and end in nanoseconds of `time.perf_counter_ns`, thread: the system's id."""

    name: str
    phase: int
    under: int
    thread: int
    begin: int
    end: int


def start(calls: int) -> None:
    """Forget what there is; from now on keep totals, and the first `calls` single calls."""
    if native.module is not None:
        native.module.profile_start(calls)


def stop() -> None:
    """Keep nothing more."""
    if native.module is not None:
        native.module.profile_stop()


def phase(index: int) -> int:
    """Set the phase of this thread's operations, -1 for none; returns the one before."""
    return -1 if native.module is None else native.module.profile_phase(index)


def take() -> tuple[list[OperationTotal], list[OperationCall]]:
    """What was kept since the last time. No operation may be running."""
    if native.module is None:
        return [], []
    totals, calls = native.module.profile_take()
    # Two clocks that tick alike: on Linux they are the same.
    ahead = native.module.profile_now() - time.perf_counter_ns()
    ahead = 0 if abs(ahead) < 1_000_000 else ahead
    return (
        [OperationTotal._make(t) for t in totals],
        [
            call._replace(begin=call.begin - ahead, end=call.end - ahead)
            for call in map(OperationCall._make, calls)
        ],
    )
