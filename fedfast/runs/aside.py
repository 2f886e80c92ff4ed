"""An earlier run is moved aside for a new one, and back where that comes to nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..files import locked
from .reading import holds_run, is_begun


class Aside:
    """`NAME` -> `NAME.previous`; what was there waits as `.NAME.older` for the new run's rounds.

    moved  whether there is an earlier run to move back
    """

    def __init__(self, path: Path) -> None:
        self.path = path if path.name not in ("", "..") else path.resolve()
        name = self.path.name
        self.previous = self.path.with_name(f"{name}.previous")
        self.older = self.path.with_name(f".{name}.older")
        self.moved = False

    def move(self) -> None:
        """Moves a run that has rounds. Raises FileExistsError where something else is in the way,
        BlockingIOError where another process works in it."""
        if not self.path.is_dir() or not holds_run(self.path):
            return
        if not is_begun(self.path):  # killed in its first round: what it had moved aside still is
            self.moved = holds_run(self.previous)
            return
        for there in (self.previous, self.older):
            if there.exists() and not holds_run(there):
                raise FileExistsError(f"out: {there} is in the way, and holds no run; move it")
        with locked(self.path / ".lock", str(self.path)):
            if self.previous.exists():
                _remove(self.older)
                self.previous.rename(self.older)
            self.path.rename(self.previous)
        (self.previous / ".lock").unlink(missing_ok=True)
        self.moved = True

    def end(self) -> None:
        """The new run has ended: the one before goes back where it has come to nothing."""
        if not self.moved:
            return
        if self.path.exists():
            _remove(self.older)
            return
        self.previous.rename(self.path)
        if self.older.exists():
            self.older.rename(self.previous)


def _remove(run: Path) -> None:
    if run.is_symlink():
        run.unlink()
    elif run.exists():
        shutil.rmtree(run)
