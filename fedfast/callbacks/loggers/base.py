"""What loggers have in common: no round twice, none left out, and no run lost with a logger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from ..._messages import warn_user
from ...history import Row
from ...signals import undisturbed
from ..base import Callback, RunInfo

if TYPE_CHECKING:
    from ..base import Sim


class Logger(Callback, ABC):
    """A base for loggers: `begin`, `write`, `flush`, `finish` and `discard` are theirs.

    name     in a config, and the extra of fedfast that installs what it needs
    package  that it needs

    What they raise once the rounds go on is warned of once, and again at the end: the run goes on
    without the logger. Raises ValueError before training where the package is missing, or where the
    logger cannot begin.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self) -> None:
        self._logged, self._open, self._failure = 0, False, ""

    @abstractmethod
    def begin(self, sim: Sim, run: RunInfo) -> int:
        """Opens this run's log; returns how many of the rounds that `sim` has done it holds."""

    @abstractmethod
    def write(self, row: Row) -> None:
        """Logs a round."""

    def flush(self) -> None:
        """What has been logged is on disk, or sent, when this returns."""

    @abstractmethod
    def finish(self, sim: Sim) -> None:
        """Logs how the run ended, and closes the log."""

    def discard(self) -> None:
        """Removes the log, which is closed: no round was ever done."""

    def on_start(self, sim: Sim, run: RunInfo) -> None:
        """Opens the log, and logs the rounds that it lacks."""
        self._failure, self._open = "", False
        if find_spec(self.package) is None:  # not sooner: its run folders are read elsewhere too
            raise ValueError(
                f"logger {self.name}: expected the package {self.package}, found none: "
                f'pip install "fedfast[{self.name}]"'
            )
        try:
            self._logged = self.begin(sim, run)
            self._open = True
            self._catch_up(sim)
        except Exception as error:  # whatever the package raises
            raise ValueError(f"logger {self.name}: cannot begin: {_line(error)}") from error

    def on_round_end(self, sim: Sim, row: Row) -> None:
        """Logs the round."""
        self._try(lambda: self._catch_up(sim), f"in round {row.round}")

    def on_save(self, sim: Sim) -> None:
        """A state holds no round that the log may still lose."""
        self._try(lambda: self._catch_up(sim), f"in round {sim.round}")
        self._try(self.flush, f"after round {sim.round}")

    def on_end(self, sim: Sim) -> None:
        """Closes the log."""
        self._try(lambda: self._catch_up(sim), f"in round {sim.round}")
        self._try(lambda: self.finish(sim), f"after round {sim.round}")
        if not sim.round:
            self._try(self.discard, "before round 1")
        self._open = False
        if self._failure:
            warn_user(
                f"logger {self.name} has logged {self._logged} of {sim.round} rounds: it failed "
                f"{self._failure}"
            )

    def _catch_up(self, sim: Sim) -> None:
        """Logs what it lacks: the last round, more where a signal came between round and log."""
        for row in sim.history.rows[self._logged :]:
            with undisturbed():  # each number once
                self.write(row)
                self._logged = row.round

    def _try(self, action: Callable[[], None], when: str) -> None:
        if not self._open or self._failure:
            return
        try:
            action()
        except Exception as error:  # whatever the package raises: rounds are worth more than a log
            self._failure = f"{when}: {_line(error)}"
            warn_user(f"logger {self.name} failed {self._failure}; the run goes on without it")


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
