"""How a row ended, and what hands rows out: on this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Outcome:
    """ "done", "stopped" (it goes on later), or "failed" with a line why."""

    status: str
    error: str = ""


class Row(Protocol):
    """A row, as far as launchers know it."""

    @property
    def folder(self) -> Path:
        """Where its files are."""


R = TypeVar("R", bound=Row)


class Launcher(Protocol[R]):
    """Hands rows out. Whatever a row's process ends by, it ends that row alone.

    busy  what is under way
    """

    @property
    def busy(self) -> Sized: ...

    def run(
        self, rows: Iterable[R], look: Callable[[Sequence[R]], object]
    ) -> Iterator[tuple[R, Outcome]]:
        """Yields rows as they end. `look(running rows)` is called several times a second."""

    def stop(self) -> None:
        """Has the rows keep what they have and end; a second Ctrl-C does not wait for that."""

    def close(self) -> None:
        """Ends the processes."""
