"""Ctrl-C and SIGTERM: both end a command as soon as what it has done is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler wants the machine back."""


def status(error: KeyboardInterrupt) -> int:
    """The exit status after either: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@dataclass
class Stop:
    """Whether a signal has come, 0 or its number.

    later  whether the first one waits until `check` is called: a round that other ranks train too
           cannot be broken off
    """

    came: int = 0
    later: bool = False

    def check(self) -> None:
        """Raise for a signal that has come: an exception is lost where Python ignores those of
        finalizers and callbacks, and the command would end as if nobody had stopped it."""
        if self.came:
            raise Terminated if self.came == signal.SIGTERM else KeyboardInterrupt

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again, self.came = bool(self.came), number
        if again or not self.later:
            self.check()


@contextmanager
def sigterm() -> Iterator[Stop]:
    """Inside the block SIGTERM raises `Terminated`, and Ctrl-C KeyboardInterrupt where it is heard
    at all; neither is forgotten."""
    stop, old = Stop(), {}
    try:
        old[signal.SIGTERM] = signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            old[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread, which alone receives signals
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
