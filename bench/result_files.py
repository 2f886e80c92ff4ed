"""Rows of bench/results: date, commit, machine, and the figures that all benchmarks share."""

from __future__ import annotations

import csv
import functools
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
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
    """The fields of `Stamp`, here and now; `threads` were given to everything timed."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "cpu": processor(),
        "threads": threads,
        "torch": torch.__version__,
    }


def quantiles(
    seconds: Sequence[float], unit: str = "s", prefix: str = "", digits: int = 5
) -> dict[str, float]:
    """`median_s`, `p20_s` and `p80_s` of some times, or those names in ms and after a prefix."""
    scale = {"s": 1.0, "ms": 1e3}[unit]
    values = zip(("median", "p20", "p80"), np.percentile(seconds, [50, 20, 80]), strict=True)
    return {f"{prefix}{name}_{unit}": round(scale * float(v), digits) for name, v in values}


def compared(seconds: Mapping[str, Sequence[float]], digits: int) -> dict[str, object]:
    """`quantiles` in ms of each contestant, and `NAME_ratio`: its median over that of fedfast."""
    found: dict[str, object] = {}
    base = statistics.median(seconds["fedfast"])
    for name, times in seconds.items():
        found |= quantiles(times, "ms", f"{name}_", digits)
        found[f"{name}_ratio"] = f"{statistics.median(times) / base:.2f}"
    return found


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
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:  # no git here
        return "unknown"
    return found.stdout.strip() or "unknown"


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
