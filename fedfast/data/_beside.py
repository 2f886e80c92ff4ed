"""Work that goes on while NumPy draws numbers, which must come one after another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

from ..kernels.threads import threads

P = ParamSpec("P")
T = TypeVar("T")


class Beside:
    """A thread of its own for what is started inside `with`; none where there is but one thread.

    NumPy and the compiled module release the interpreter's lock while they work on large arrays.
    """

    def __enter__(self) -> Beside:
        self._pool = ThreadPoolExecutor(1) if threads() > 1 else None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def start(self, run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """`run(...)`, after what was started before; without a thread it is done at once."""
        if self._pool is not None:
            return self._pool.submit(run, *args, **kwargs)
        done: Future[T] = Future()
        done.set_result(run(*args, **kwargs))
        return done
