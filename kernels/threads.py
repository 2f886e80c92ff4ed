"""How many threads the compiled module's operations take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import torch


class _Given(local):
    count: int | None = None


_given = _Given()


def threads() -> int:
    """Those of `thread_count`, torch's own outside of it."""
    return _given.count or torch.get_num_threads()


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Operations called inside, by this thread, take so many, whatever torch's number is."""
    before, _given.count = _given.count, count
    try:
        yield
    finally:
        _given.count = before
