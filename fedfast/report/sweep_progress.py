"""Shows a sweep while it goes on: all rows and the running ones, or a line for each that ends."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..sweep.grid import SweepRow
from .progress import NarrowBar

PATIENCE = 30.0  # seconds without a line after which running rows get one
TAIL = 4096  # bytes of a history, more than its last line has


class SweepProgress:
    """`with SweepProgress(rows) as show:`, then `show.look(running)` and `show.ended(row, ...)`.

    On a terminal: a bar over the rounds of all rows, and one for each running row with its last
    accuracy. Otherwise a line for each row that ends, and every 30 s one for those that run.
    """

    def __init__(self, total: int, rounds: int, stream: TextIO | None = None) -> None:
        self.total, self.rounds = total, rounds
        self.stream = sys.stdout if stream is None else stream
        console = Console(file=self.stream)
        live = self.stream.isatty() and not console.is_dumb_terminal
        self.bar = _bar(console) if live else None
        self.all = self.bar.add_task("", total=rounds, right="") if self.bar else TaskID(0)
        self.tasks: dict[Path, TaskID] = {}
        self.rows = self.failed = self.done = 0  # rows that ended, how many badly; their rounds
        self.began = self.printed = time.monotonic()

    def __enter__(self) -> SweepProgress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            for task in self.tasks.values():
                self.bar.remove_task(task)
            self.bar.refresh()
            self.bar.stop()

    def skip(self, rows: int, rounds: int) -> None:
        """Rows that an earlier call has done count, too."""
        self.rows += rows
        self.done += rounds
        if self.bar:
            self.bar.update(self.all, completed=self.done)
        elif rows:
            self._print(f"[{self.rows}/{self.total}] done before: {rows}")

    def ended(self, row: SweepRow, status: str, figures: str) -> None:
        """A row has ended as its `status` says; `figures` stand beside it."""
        self.rows += 1
        self.failed += status == "failed"
        self.done += row.config.rounds
        head = f"[{self.rows}/{self.total}]"
        if self.bar is None:
            self._print(f"{head} {row}: {status}{f', {figures}' if figures else ''}")
        elif status == "failed":
            self.bar.console.print(Text(f"{head} {row}: failed, {figures}", "red"))

    def look(self, running: Sequence[SweepRow]) -> None:
        """Shows how far the running rows are."""
        now = time.monotonic()
        if self.bar is None:
            if running and now - self.printed >= PATIENCE:
                self._print("running: " + "; ".join(f"{r}, {_state(r)}" for r in running))
            return
        bar = self.bar
        for path in self.tasks.keys() - {row.folder for row in running}:
            bar.remove_task(self.tasks.pop(path))
        under_way = 0
        for row in running:
            done, accuracy = last_round(row)
            under_way += done
            if row.folder not in self.tasks:
                self.tasks[row.folder] = bar.add_task(str(row), total=row.config.rounds, right="")
            right = f"{done}/{row.config.rounds}  {_percent(accuracy)}" if done else "starting"
            bar.update(self.tasks[row.folder], completed=done, right=right)
        rows = f"{self.rows}/{self.total} rows" + f", {self.failed} failed" * bool(self.failed)
        bar.update(self.all, completed=self.done + under_way, description=rows)

    def _print(self, text: str) -> None:
        self.printed = time.monotonic()
        print(text, file=self.stream, flush=True)


def last_round(row: SweepRow) -> tuple[int, float]:
    """Round and accuracy in the last line of a row's history; 0 and nan where there is none."""
    try:
        with (row.folder / "history.csv").open("rb") as file:
            head = file.readline().decode("utf-8")
            file.seek(max(file.tell(), file.seek(0, io.SEEK_END) - TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
        cells = dict(zip(*csv.reader([head, lines[-2]]), strict=True))
        return int(cells["round"]), float(cells["accuracy"])
    except (OSError, ValueError, LookupError):  # none yet, or just being written
        return 0, math.nan


def _state(row: SweepRow) -> str:
    done, accuracy = last_round(row)
    shown = _percent(accuracy)
    return f"round {done}/{row.config.rounds}" + (f", accuracy {shown}" if shown else "")


def _percent(accuracy: float) -> str:
    return "" if math.isnan(accuracy) else f"{accuracy:.2%}"


def _bar(console: Console) -> Progress:
    return NarrowBar(
        console,
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[right]}", style="green"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        refresh=4,
    )
