"""`history.csv` of a run folder: a line per label and round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from io import TextIOWrapper
from pathlib import Path

from ..files import atomic
from ..history import FIELDS, History, Row, line

NAME = "history.csv"


def text(histories: Mapping[str, History]) -> str:
    """The whole file, label by label."""
    rows = ((label, *astuple(row)) for label, history in histories.items() for row in history)
    return line(("algorithm", *FIELDS)) + "".join(map(line, rows))


def write(folder: Path, histories: Mapping[str, History]) -> None:
    """Replaces the file, unless it holds exactly this. Raises OSError naming it."""
    path, content = folder / NAME, text(histories).encode()
    if not path.exists() or path.read_bytes() != content:
        atomic(path, lambda to: to.write_bytes(content))


class Appender:
    """Writes rows to the end of the file, each of them at once. Raises OSError naming it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: TextIOWrapper | None = None

    def append(self, label: str, row: Row) -> None:
        """A row is in the file when this returns."""
        try:
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8", newline="")
            self._file.write(line((label, *astuple(row))))
            self._file.flush()
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Lets go of the file; what could not be written is left out."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                raise type(error)(error.errno, error.strerror, str(self.path)) from error
