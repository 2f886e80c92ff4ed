"""Signals that come while files are written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C or SIGTERM inside the block takes effect at its end: no file is left half written."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    old = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for which, handler in old.items():
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])
