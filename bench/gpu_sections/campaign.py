"""What the sections of a campaign share: rows kept one by one, time left, timing on the device."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from traceback import format_exception

import torch

COLUMNS = ("run", "section", "subject", "measure", "value", "unit")
CALLS, TURNS = 20, 7
CACHE = 200e6  # bytes; buffers that take turns are larger than the second cache in all
Action = Callable[[int], object]  # the number of the call: which of several buffers it takes


class DeviceLost(BaseException):
    """Nothing runs on the device any more in this process, as after an illegal access."""


@dataclass
class Campaign:
    """One process's rows and clock.

    device     what everything runs on
    path       the file of rows; each is written as soon as it is known
    rehearsal  sizes are tiny; without a GPU every action runs once, and no time is written
    stamp      the first columns of every row: date, commit, device, versions
    until      seconds of `time.monotonic` at which the section ends
    figures    the numbers of all rows, by (subject, measure)
    """

    device: torch.device
    path: Path
    rehearsal: bool
    stamp: dict[str, str]
    section: str = ""
    until: float = math.inf
    headlines: list[tuple[str, ...]] = field(default_factory=list)
    figures: dict[tuple[str, str], float] = field(default_factory=dict)

    def row(
        self,
        subject: str,
        measure: str,
        value: float | str | None,
        unit: str = "",
        headline: bool = False,
    ) -> None:
        """One figure; None where a rehearsal has none. Headlines come again in the last table."""
        text = "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
        if isinstance(value, float):
            self.figures[subject, measure] = value
        run = "rehearsal" if self.rehearsal else "gpu"
        line = (run, self.section, subject, measure, text, unit)
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow([*self.stamp, *COLUMNS])
            writer.writerow([*self.stamp.values(), *line])
        if headline:
            self.headlines.append((self.section, subject, measure, text, unit))

    def known(self) -> int:
        """Take over the figures of rows that an earlier call left in the file; how many those are.

        Bars of sections that it measured are judged by them.
        """
        if not self.path.exists():
            return 0
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            with suppress(ValueError):
                self.figures[row["subject"], row["measure"]] = float(row["value"])
        return len(rows)

    @property
    def timed(self) -> bool:
        """Whether there is a device whose times are wanted."""
        return self.device.type == "cuda"

    @contextmanager
    def trying(self, subject: str) -> Iterator[None]:
        """What fails within is a row, and whatever follows goes on; errors.txt has where.

        Raises DeviceLost where the device answers no more.
        """
        try:
            yield
        except Exception as error:  # Triton's have no base of their own
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            self.row(subject, "failed", what, headline=True)
            self.failed(subject, error)
            if self.timed:
                try:
                    torch.cuda.synchronize()
                except Exception as lost:
                    raise DeviceLost(f"{subject}: {what}") from lost

    def failed(self, subject: str, error: Exception) -> None:
        """Where an error came from, in a file beside the rows."""
        with self.beside("errors.txt").open("a", encoding="utf-8") as file:
            file.writelines([f"{self.section}, {subject}\n", *format_exception(error), "\n"])

    def beside(self, name: str) -> Path:
        """A file in the folder of the rows."""
        return self.path.with_name(name)

    def left(self) -> float:
        """Seconds until the section has to end."""
        return self.until - time.monotonic()

    def pick(self, full: int, small: int) -> int:
        """A size, or that of a rehearsal."""
        return small if self.rehearsal else full

    def seconds(self, action: Action, copies: int = 1) -> float | None:
        """The middle of `TURNS` times of a call, with buffers 0 to `copies` - 1 taking turns.

        `CALLS` of them are one graph, so that the host is not what is timed; where they cannot be
        captured they follow one another on the stream.
        """
        for i in range(copies):
            action(i)
        if not self.timed:
            return None
        torch.cuda.synchronize()
        calls = -(-CALLS // copies) * copies
        run = captured(action, calls, copies) or (
            lambda: [action(i % copies) for i in range(calls)] and None
        )
        run()
        return median(events(run) for _ in range(TURNS)) / calls

    def copies(self, bytes_: float) -> int:
        """How many buffers of that size are larger than the caches."""
        return 1 if self.rehearsal else max(1, min(CALLS, math.ceil(CACHE / bytes_)))


def captured(action: Action, calls: int, copies: int) -> Callable[[], None] | None:
    """So many calls as one graph."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for i in range(calls):
                action(i % copies)
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph.replay


def events(run: Callable[[], object]) -> float:
    """Seconds on the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def ratio(above: float | None, below: float | None) -> float | None:
    """Of two times, where both are known."""
    return None if above is None or below is None else above / below


def rate(work: float, seconds: float | None) -> float | None:
    """Work per second, where the time is known."""
    return None if seconds is None else work / seconds


def shortest(times: Sequence[float | None]) -> float | None:
    """Of those known."""
    return min((t for t in times if t is not None), default=None)


def normal(campaign: Campaign, *shape: int) -> torch.Tensor:
    """Random numbers on the device."""
    return torch.randn(*shape, device=campaign.device)
