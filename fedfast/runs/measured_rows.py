"""What was measured of a run's models, as CSV files in its folder: `landscape.csv` and others."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import atomic

LABEL = "label"


def write(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, object]],
    same: Sequence[str] = (LABEL,),
) -> Path:
    """Put rows into `folder/name`; those that were there and measured the same make place.

    rows  column -> value, each with a column `label`
    same  the columns that say what a row measures: rows that agree in them are replaced
    """
    anew = {tuple(str(row[column]) for column in same) for row in rows}
    before = read(folder, name)
    kept = [row for row in before if tuple(row.get(column, "") for column in same) not in anew]
    whole = [*kept, *rows]
    columns = list(dict.fromkeys(column for row in whole for column in row))

    def put(to: Path) -> None:
        with to.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(whole)

    atomic(folder / name, put)
    return folder / name


def read(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of `folder/name`; none where there is no file. Raises ValueError naming it."""
    path = folder / name
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if LABEL not in (reader.fieldnames or []):
        raise ValueError(f"{path}: expected a column {LABEL!r}; got {reader.fieldnames}")
    return rows
