"""What the rows of a sweep came to: sweep.csv, a line per row; a table of means over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import atomic
from ..history import History, line
from ..report.run_table import duration
from ..report.summaries import number
from ..runs import read
from .grid import SweepRow, text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OPTIONAL = ("time", "loss", "best %")
FIELDS = (
    "status", "rounds", "accuracy", "best_accuracy", "loss", "seconds", "folder", "error"
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A row and its rounds so far.

    status  "done", "diverged" (done early, by a model that is not finite), "stopped", "failed",
            or "waiting" for a row that was not begun
    """

    row: SweepRow
    status: str
    error: str = ""
    history: History = field(default_factory=History)

    def summary(self, column: str, summary: str) -> float:
        """As `report.summaries.number` has it, accuracies in percent."""
        return number(self.history, column, summary)

    @property
    def seconds(self) -> float:
        """Of all rounds."""
        return math.fsum(s for s in self.history.column("seconds") if math.isfinite(s))

    def figures(self) -> str:
        """What the line of a row shows: `accuracy 81.20 %, 3.1 s`, or why it failed."""
        if self.error:
            return self.error
        last = self.summary("accuracy", "last"), self.summary("loss", "last")
        shown = f"accuracy {last[0]:.2f} %, " if not math.isnan(last[0]) else ""
        shown = shown or (f"loss {last[1]:.4g}, " if not math.isnan(last[1]) else "")
        return f"{shown}{duration(self.seconds)}" if len(self.history) else ""


def result(row: SweepRow, status: str, error: str = "") -> Result:
    """The row with what its folder holds."""
    try:
        history, about = read(row.folder, row.label)
    except (ValueError, OSError) as damaged:
        return Result(row, "failed", error or str(damaged))
    if status == "done" and about.stopped:
        status = "diverged"
    return Result(row, status, error, history)


def write(results: Sequence[Result], path: Path) -> None:
    """sweep.csv: the varied fields as columns, accuracies from 0 to 1 as in history.csv."""
    varied = fields(results)
    lines = [line(("combination", "label", "seed", *varied, *FIELDS))]
    for one in results:
        row, tested = one.row, one.history.tested()
        best = one.summary("accuracy", "best") / 100
        last = tested.last() if len(tested) else None
        figures = (last.accuracy, best, last.loss) if last else (math.nan,) * 3
        values = [text(row.values[name]) if name in row.values else "" for name in varied]
        where = row.folder.relative_to(path.parent)
        end = (one.status, len(one.history), *figures, one.seconds, where, one.error)
        lines.append(line((row.combination, row.label, row.seed, *values, *end)))
    atomic(path, lambda to: to.write_bytes("".join(lines).encode()))


def fields(results: Iterable[Result]) -> list[str]:
    """The names of all varied fields, each once."""
    return list(dict.fromkeys(name for one in results for name in one.row.values))


def table(results: Sequence[Result], console: Console) -> Table:
    """For the terminal: a line per combination and label, mean ± standard deviation over seeds.

    On a narrow one the columns of `OPTIONAL` are left out, one after the other.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        groups.setdefault((one.row.label, one.row.combination), []).append(one)
    varied = fields(results)
    heads = ["algorithm", *map(_short, varied), "seeds", "accuracy %", "best %", "loss", "time"]
    cells = [_cells(group, varied) for group in groups.values()]
    wide = console.options.update(max_width=10_000)  # else nothing is measured as wider
    for left_out in range(len(OPTIONAL) + 1):
        made = _table(heads, cells, OPTIONAL[:left_out], len(varied))
        if console.measure(made, options=wide).maximum <= console.width:
            break
    return made


def _table(
    heads: Sequence[str], cells: Sequence[Sequence[str]], without: Sequence[str], varied: int
) -> Table:
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    kept = [i for i, head in enumerate(heads) if i <= varied or head not in without]
    for i in kept:
        made.add_column(heads[i], justify="right" if i > varied else "left", no_wrap=True)
    for row in cells:
        made.add_row(*(row[i] for i in kept))
    return made


def _cells(group: Sequence[Result], varied: Sequence[str]) -> list[str]:
    row = group[0].row
    ended = [one for one in group if one.status in ("done", "diverged")]
    values = [text(row.values[name]) if name in row.values else "–" for name in varied]
    count = str(len(ended)) if len(ended) == len(group) else f"{len(ended)} of {len(group)}"
    means = [
        mean([one.summary(column, summary) for one in ended], digits)
        for column, summary, digits in (
            ("accuracy", "last", ".2f"), ("accuracy", "best", ".2f"), ("loss", "last", ".3f")
        )
    ]  # fmt: skip
    return [row.label, *values, count, *means, duration(sum(one.seconds for one in group))]


def mean(found: Sequence[float], digits: str) -> str:
    """`81.20 ± 0.31`, the sample's standard deviation where there are two values or more."""
    if not found or np.isnan(found).any():
        return "–"
    spread = f" ± {np.std(found, ddof=1):{digits}}" if len(found) > 1 else ""
    return f"{np.mean(found):{digits}}{spread}"


def _short(name: str) -> str:
    """`alpha` of partition.alpha, `fedsam.rho` of algorithms.fedsam.rho."""
    parts = name.split(".")
    return ".".join(parts[1:]) if len(parts) > 1 else name
