"""Ctrl-C and SIGTERM: both end a command as soon as what it has done is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler wants the machine back."""


def status(error: KeyboardInterrupt) -> int:
    """The exit status after either: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def sigterm() -> Iterator[None]:
    """Inside the block SIGTERM raises `Terminated`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        old = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
