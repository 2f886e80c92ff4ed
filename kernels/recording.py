"""What launches are given while they are recorded: a graph repeats addresses, and owns nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local


class Kept(local):
    """Whether this thread keeps what its launches are given."""

    arguments: list[object] | None = None


_kept = Kept()


@contextmanager
def keeping() -> Iterator[list[object]]:
    """Inside, what this thread's launches are given is kept in the list."""
    before, _kept.arguments = _kept.arguments, []
    try:
        yield _kept.arguments
    finally:
        _kept.arguments = before


def keep(arguments: object) -> None:
    """A launch is given these."""
    if _kept.arguments is not None:
        _kept.arguments.append(arguments)
