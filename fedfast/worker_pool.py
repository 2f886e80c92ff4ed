"""Threads for clients side by side, each on one intra-operation thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from .torch_settings import torch_threads

T = TypeVar("T")


class WorkerPool:
    """Runs a function once per worker; a call that is broken off leaves no worker running."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._threads, self._busy = self._new_threads(), False
        self._call, self._working = object(), [threading.Lock() for _ in range(workers)]

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, "fedfast", initializer=_one_torch_thread)

    def each(self, work: Callable[[int], T]) -> list[T]:
        """`work(worker)` of all workers, every one on a single intra-operation thread."""
        if self.workers == 1:
            with torch_threads(1):
                return [work(0)]
        return self._side_by_side(work)

    def _side_by_side(self, work: Callable[[int], T]) -> list[T]:
        self.wait()
        self._busy, self._call = True, (call := object())

        def guarded(worker: int) -> T | None:
            with self._working[worker]:
                return work(worker) if self._call is call else None

        try:
            found: list[T] = list(self._threads.map(guarded, range(self.workers)))  # type: ignore[arg-type]
        except BaseException:  # a signal's too: the other workers still write to the live buffers
            self.wait()
            raise
        self._busy = False
        return found

    def wait(self) -> None:
        """Until no worker is at work any more for a call that was broken off."""
        if self._busy:
            # The pool does not know a thread that was being started when a signal came: it finds
            # that its call is over, or is waited for where it has begun.
            self._call = object()
            for working in self._working:
                with working:
                    pass
            self._threads.shutdown(wait=True)
            self._threads, self._busy = self._new_threads(), False


def _one_torch_thread() -> None:
    """This thread's operations on itself alone, from now on: torch chooses other kernels for two.

    A thread takes the process's count over when it first asks for its own. Asked here: what other
    threads set between this call and the first operation would count for this one too.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)
