"""`history.csv` of a run folder: a line per label and round."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from io import TextIOWrapper
from pathlib import Path

from ..files import atomic
from ..history import History, Row, cells, columns_of, line, read_runs

NAME = "history.csv"


def text(histories: Mapping[str, History], more: Iterable[str] = ()) -> str:
    """The whole file, label by label; more: columns that a row still to come has."""
    names = columns_of(row for history in histories.values() for row in history)
    names = *names, *(name for name in more if name not in names)
    rows = ((label, *cells(row, names)) for label, found in histories.items() for row in found)
    return line(("algorithm", *names)) + "".join(map(line, rows))


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
        self._names: tuple[str, ...] = ()

    def append(self, label: str, row: Row) -> None:
        """A row is in the file when this returns; a column that it brings is there for all rows."""
        try:
            if not (self._names and row.measured.keys() <= set(self._names)):
                self._fit(row)
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8", newline="")
            self._file.write(line((label, *cells(row, self._names))))
            self._file.flush()
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self.path)) from error

    def _fit(self, row: Row) -> None:
        """Read the file's columns; where it lacks one of the row's, write it anew with that."""
        self._names = self._head()
        if not row.measured.keys() <= set(self._names):
            self.close()
            content = text(read_runs(self.path), row.measured)
            atomic(self.path, lambda to: to.write_bytes(content.encode()))
            self._names = self._head()

    def _head(self) -> tuple[str, ...]:
        with self.path.open(encoding="utf-8", newline="") as file:
            return tuple(next(csv.reader(file), ()))[1:]

    def close(self) -> None:
        """Lets go of the file; what could not be written is left out."""
        self._names = ()
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                raise type(error)(error.errno, error.strerror, str(self.path)) from error
