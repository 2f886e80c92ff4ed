"""Marks that benchmarks share."""

from __future__ import annotations

import time

import pytest

ONE_AND_TWO_THREADS = pytest.mark.parametrize("threads", [1, 2], indirect=True)
# CPU time of the thread, in which other processes hardly show; for benchmarks of one thread.
THREAD_TIME = pytest.mark.benchmark(timer=time.thread_time)


def beside(*others: str) -> pytest.MarkDecorator:
    """One benchmark of ours, `contestant` "fedfast", and one of each of `others`."""
    return pytest.mark.parametrize("contestant", ["fedfast", *others])
