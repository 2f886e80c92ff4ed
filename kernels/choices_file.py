"""`choices.csv`: the table of choices as text, each value checked."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import NoReturn

from .choices import PARTS, PRECISIONS, TRITON, Row, Shape, Sides, Table
from .library.candidates import CANDIDATES

PATH = Path(__file__).with_name("choices.csv")
WINDOW = ("taps", "stride", "padding", "dilation")
SHAPE = ("batch", "inputs", "outputs", *WINDOW, "groups", "pool")
COLUMNS = ("device", "libraries", "precision", "part", *SHAPE, "candidate", "verified", "gain")


def read(path: Path) -> Table:
    """The table in a file. Raises ValueError naming the line and the column that is wrong."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        first = next(lines, [])
        if tuple(first) != COLUMNS:
            raise ValueError(f"{path.name}: expected the columns {','.join(COLUMNS)}; got {first}")
        return Table(_Line(f"{path.name}, line {lines.line_num}", line).row() for line in lines)


def text(table: Table) -> str:
    """As the file has it."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table:
        held = vars(row.shape) | vars(row) | dict(gain=f"{row.gain:.4g}")
        held["verified"] = " ".join(map(str, row.verified))
        for name in ("inputs", *WINDOW, "pool"):
            held[name] = "x".join(map(str, held[name]))
        writer.writerow([held[name] for name in COLUMNS])
    return file.getvalue()


@cache
def shipped() -> Table:
    """The repository's."""
    return read(PATH)


@dataclass(frozen=True)
class _Line:
    """A line, and how errors name it."""

    where: str
    values: list[str]

    def row(self) -> Row:
        """What it says; ValueError where it says nothing."""
        if len(self.values) != len(COLUMNS):
            raise ValueError(
                f"{self.where}: expected {len(COLUMNS)} values; got {len(self.values)}"
            )
        device, libraries = self._text("device"), self._text("libraries")
        precision, part = self._named("precision", PRECISIONS), self._named("part", PARTS)
        shape = self._shape()
        able = [name for name, c in CANDIDATES.items() if shape.operation in c.operations]
        candidate = self._named("candidate", (TRITON, *able))
        trials = self._trials(candidate)
        return Row(device, libraries, precision, part, shape, candidate, *trials)

    def _shape(self) -> Shape:
        batch, outputs, groups = (self._number(c) for c in ("batch", "outputs", "groups"))
        inputs = self._sides("inputs", (1, 3), "numbers I, or CxHxW")
        counts, expected = (2,), "VERTICALxHORIZONTAL"
        if len(inputs) == 1:
            counts, expected = (0,), "nothing, as for dense layers"
        taps, stride, padding, dilation = (
            self._sides(c, counts, expected, int(c != "padding")) for c in WINDOW
        )
        pool = self._sides("pool", (0, *counts), f"{expected} or nothing")
        if inputs[0] % groups or outputs % groups:
            self._refuse("groups", f"a divisor of {inputs[0]} and of {outputs}")
        window = taps, stride, padding, dilation, groups
        return Shape(batch, inputs, outputs, *window, pool)

    def _trials(self, candidate: str) -> tuple[Sides, float]:
        """K for which bits did not depend on it, and the gain."""
        if candidate == TRITON:
            return (), 1.0
        block = CANDIDATES[candidate].clients
        expected = f"numbers of clients, 1 and one above {block}, those of a block"
        verified = self._sides("verified", range(2, 99), expected, between=" ")
        if 1 not in verified or max(verified) <= block:
            self._refuse("verified", expected)
        try:
            gain = float(self._text("gain"))
        except ValueError:
            gain = 0.0
        if not (1.0 < gain and isfinite(gain)):
            self._refuse("gain", "a number above 1")
        return verified, gain

    def _text(self, column: str) -> str:
        return self.values[COLUMNS.index(column)]

    def _refuse(self, column: str, expected: str) -> NoReturn:
        raise ValueError(f"{self.where}: {column}: expected {expected}; got {self._text(column)!r}")

    def _named(self, column: str, names: Collection[str]) -> str:
        if self._text(column) not in names:
            self._refuse(column, f"one of {', '.join(names)}")
        return self._text(column)

    def _number(self, column: str) -> int:
        return self._sides(column, (1,), "a whole number of at least 1")[0]

    def _sides(
        self,
        column: str,
        counts: Collection[int],
        expected: str,
        least: int = 1,
        between: str = "x",
    ) -> Sides:
        """As many whole numbers as one of the counts."""
        given = self._text(column)
        try:
            found = tuple(map(int, given.split(between) if given else ()))
        except ValueError:
            self._refuse(column, expected)
        if len(found) not in counts or min(found, default=least) < least:
            self._refuse(column, expected)
        return found
