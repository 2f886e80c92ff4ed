"""Rows of bench/results: when, at which commit and on what machine; how they are kept."""

from __future__ import annotations

import csv
import functools
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Stamp:
    """The first columns of every file in results."""

    date: str
    commit: str
    cpu: str
    threads: int
    torch: str


def stamp(threads: int) -> dict[str, str | int]:
    """The fields of `Stamp`, here and now; `threads` were given to every contestant."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "cpu": processor(),
        "threads": threads,
        "torch": torch.__version__,
    }


def append(name: str, *rows: Mapping[str, object]) -> None:
    """Add `rows` to results/`name`.csv; a new file begins with their names.

    Raises ValueError if a row has other columns than the file.
    """
    path = RESULTS / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    columns = header(path) or list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"{path.name}: expected columns {columns}; got {list(row)}")
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def header(path: Path) -> list[str]:
    """The columns of a file of results; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


@functools.cache
def commit() -> str:
    """The commit measured, + if the tree differed from it before this run appended rows."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip() or "unknown"


@functools.cache
def processor() -> str:
    """The CPU's model name, with its number where the name says little."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {
        line.split(":")[0].strip(): line.split(":")[-1].strip() for line in lines if ":" in line
    }
    return f"{facts.get('model name', platform.machine())} model {facts.get('model', '?')}"
