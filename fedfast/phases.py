"""Phases of a round: how long they take, while a `Profile` is on.

    with phase("gather"):
        ...

    @timed("aggregate")
    def add(...): ...

Without a profile both cost a fraction of a microsecond. Phases may lie in each other: what an inner
one takes is not the outer one's. A plan runs operations of several phases in one call; those that
were recorded within another phase than the plan's get their part of its time, by the time that all
threads spent in them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from types import TracebackType
from typing import Literal, NamedTuple, ParamSpec, TypeVar, get_args

from .kernels import profile as native_profile
from .kernels.profile import OperationCall, OperationTotal

Phase = Literal[
    "schedule", "gather", "forward_backward", "perturb", "step", "aggregate", "state", "evaluate"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
INDEX = {name: i for i, name in enumerate(PHASES)}

P = ParamSpec("P")
R = TypeVar("R")


class Span(NamedTuple):
    """From `begin` to `end`, ns of `time.perf_counter_ns`; thread: the system's id."""

    name: str
    thread: int
    begin: int
    end: int


@dataclass
class ThreadTimes:
    """One thread's phases: nanoseconds of each without what lies in it, and each by itself."""

    own: dict[str, int] = field(default_factory=dict)
    inner: list[int] = field(default_factory=list)  # of each open phase: nanoseconds within it


class Profile:
    """What a run spends its time on; `with recording(profile):` fills it.

    spans, calls  how many single phases and calls of operations are kept at most
    """

    def __init__(self, spans: int = 0, calls: int = 0) -> None:
        self.room, self.calls_room = spans, calls
        self.thread = threading.get_native_id()
        self.threads: dict[int, ThreadTimes] = {}
        self.spans: list[Span] = []
        self.totals: list[OperationTotal] = []
        self.calls: list[OperationCall] = []

    def of_thread(self) -> ThreadTimes:
        """Those of the calling thread."""
        return self.threads.setdefault(threading.get_native_id(), ThreadTimes())

    def keep(self, name: str, begin: int, end: int) -> None:
        """A span of the calling thread, while there is room for it."""
        thread = threading.get_native_id()
        if len(self.spans) < self.room:
            self.spans.append(Span(name, thread, begin, end))

    def fetch(self) -> None:
        """Take over what the compiled module has kept. No operation may be running."""
        totals, calls = native_profile.take()
        self.totals += totals
        self.calls += calls

    def seconds(self) -> dict[Phase, float]:
        """Wall time of each phase on the thread that made the profile."""
        own = self.threads.get(self.thread, ThreadTimes()).own
        found = {name: own.get(name, 0) / 1e9 for name in PHASES}
        for name in PHASES:
            for to, moved in self._planned(name).items():
                found[name] -= moved
                found[to] += moved
        return found

    def _planned(self, under: Phase) -> dict[Phase, float]:
        """Seconds of the plans run in one phase that belong to others."""
        index = INDEX[under]
        wall = sum(t.nanoseconds for t in self.totals if t.name == "plan" and t.phase == index)
        inside = [t for t in self.totals if t.under == index]
        whole = sum(t.nanoseconds for t in inside)
        others: dict[Phase, float] = {}
        for t in inside:
            if t.phase not in (-1, index):
                name = PHASES[t.phase]
                others[name] = others.get(name, 0.0) + wall * t.nanoseconds / whole / 1e9
        return others


class _Timed:
    """One phase of one thread."""

    def __init__(self, profile: Profile, name: Phase) -> None:
        self.profile, self.name = profile, name

    def __enter__(self) -> None:
        self.times = self.profile.of_thread()
        self.times.inner.append(0)
        self.before = native_profile.phase(INDEX[self.name])
        self.begin = time.perf_counter_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end = time.perf_counter_ns()
        native_profile.phase(self.before)
        times, taken = self.times, end - self.begin
        own = taken - times.inner.pop()
        times.own[self.name] = times.own.get(self.name, 0) + own
        if times.inner:
            times.inner[-1] += taken
        self.profile.keep(self.name, self.begin, end)


_NOTHING = nullcontext()
_profile: Profile | None = None


def phase(name: Phase) -> AbstractContextManager[None]:
    """The block is part of that phase."""
    return _NOTHING if _profile is None else _Timed(_profile, name)


def span(name: str) -> AbstractContextManager[None]:
    """The block has a name in a trace; it is no phase."""
    return _NOTHING if _profile is None else _spanned(_profile, name)


@contextmanager
def _spanned(profile: Profile, name: str) -> Iterator[None]:
    begin = time.perf_counter_ns()
    yield
    profile.keep(name, begin, time.perf_counter_ns())


def timed(name: Phase) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """All calls of the function are part of that phase."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> R:
            if _profile is None:
                return function(*args, **kwargs)
            with _Timed(_profile, name):
                return function(*args, **kwargs)

        return within

    return decorate


@contextmanager
def recording(profile: Profile) -> Iterator[Profile]:
    """Phases inside are kept in `profile`. Raises RuntimeError inside another one."""
    global _profile
    if _profile is not None:
        raise RuntimeError("a profile is being recorded already")
    native_profile.start(profile.calls_room)
    _profile = profile
    try:
        yield profile
    finally:
        _profile = None
        native_profile.stop()
        profile.fetch()
