"""What the rows of a study came to: scale.csv, tables, points for the cost model."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic
from ..history import line
from .cost_model import Point
from .features import PHASE_NAMES, Size
from .machine import Machine, Rates
from .rows import ScaleRow
from .work import Workload, fractions

if TYPE_CHECKING:
    from rich.table import Table

MIB = 1 << 20
NAME = re.compile(r"clients-(\d+)-cohort-(\d+)-ranks-(\d+)")
PHASES = (*PHASE_NAMES[:-1], "evaluate")
FIELDS = (
    "algorithm", "clients", "cohort", "ranks", "threads", "held_out", "status", "rounds", "seconds",
    "clients_per_second", "samples_per_second", "host_bytes", "device_bytes", "disk_bytes",
    "setup_seconds", "chunk", "predicted_seconds", "visits",
    "fastest_seconds",
)  # fmt: skip
SHORT = {
    "schedule": "sched.", "forward_backward": "fwd/bwd", "aggregate": "aggr.", "evaluate": "eval.",
}  # fmt: skip
ALIKE = 0.05  # what two visits to a row may differ by
SLOWEST = 1.6  # times as long as usual: what the speed of a machine makes of a round
VISIBLE = 0.01  # of the round: phases below it in every row have no column


@dataclass(frozen=True)
class Found:
    """What a worker has written; see `worker.Measured`."""

    seconds: float
    visits: Sequence[tuple[float, float]]
    samples: float
    rounds: int
    threads: int
    chunk: int
    each: int
    evaluation: float
    setup: float
    host: int
    device: int
    disk: int
    phases: Mapping[str, float]
    work: Workload

    def usual(self, pulse: float) -> list[float]:
        """Seconds of each visit at the speed at which the yardstick's round takes `pulse`, sorted.

        Where the yardstick was held up much longer it says nothing of the speed: such visits count
        where there are no others.
        """
        near = [v for v in self.visits if abs(math.log(v[1] / pulse)) < math.log(SLOWEST)]
        return sorted(seconds * pulse / its for seconds, its in near or self.visits)

    def agrees(self, pulse: float) -> bool:
        """Whether the two fastest visits are alike: what holds up a visit makes it slower."""
        usual = self.usual(pulse)
        return len(usual) > 1 and usual[1] < usual[0] * (1 + ALIKE)

    def at(self, pulse: float) -> Found:
        """The row at that speed: the mean of the two fastest visits, or the fastest where they are
        not alike; phases in the same shares.
        """
        usual = self.usual(pulse)
        seconds = sum(usual[:2]) / 2 if self.agrees(pulse) else usual[0]
        phases = {name: taken * seconds / self.seconds for name, taken in self.phases.items()}
        return replace(self, seconds=seconds, phases=phases)


@dataclass(frozen=True)
class Result:
    """A row and what is known of it.

    status  "done", "failed", "stopped", "running" or "waiting"
    """

    row: ScaleRow
    status: str
    error: str = ""
    found: Found | None = None
    predicted: float = math.nan

    def rates(self, machine: Machine) -> Rates:
        """What the row's threads could do together."""
        assert self.found is not None
        return machine.of(self.found.threads * self.row.ranks)

    def fractions(self, machine: Machine) -> dict[str, float]:
        """Of the measured rates, phase by phase."""
        if self.found is None:
            return {}
        times = {**self.found.phases, "evaluate": self.found.evaluation}
        return fractions(self.found.work, self.row.cohort, times, self.rates(machine))

    def point(self) -> Point | None:
        """What the cost model is fitted to."""
        found, row = self.found, self.row
        if found is None:
            return None
        rounds = found.rounds + 1  # the first is not timed
        size = Size(row.clients, row.cohort, row.ranks, found.threads, found.chunk, rounds)
        numbers = found.seconds, found.phases, float(found.host), float(found.each)
        return Point(row.algorithm, size, *numbers, found.work)


def read(row: ScaleRow, status: str = "done", error: str = "") -> Result:
    """The row with what its file holds. A file that is damaged is measured anew."""
    if status != "done":
        return Result(row, status, error)
    try:
        kept = json.loads(row.result.read_text(encoding="utf-8"))
        work, held = Workload(**kept.pop("workload")), bool(kept.pop("held_out"))
        return Result(replace(row, held_out=held), "done", found=Found(**kept, work=work))
    except (OSError, ValueError, TypeError, KeyError) as damaged:
        return Result(row, "failed", error or f"{row.result}: {damaged}")


def earlier(study: Path, rows: Sequence[ScaleRow]) -> list[Result]:
    """What other calls have measured in the folder, of the same algorithms."""
    found, ours = [], {row.name for row in rows}
    for label in dict.fromkeys(row.algorithm for row in rows):
        for path in sorted((study / "rows" / label).glob("*.json")):
            if numbers := NAME.fullmatch(path.stem):
                clients, cohort, ranks = map(int, numbers.groups())
                row = ScaleRow(study, label, clients, cohort, ranks)
                if row.name not in ours and (one := read(row)).found is not None:
                    found.append(one)
    return found


def is_done(row: ScaleRow) -> bool:
    """Whether it was measured before."""
    return row.result.exists() and read(row).status == "done"


def pulses(done: Sequence[Result]) -> dict[tuple[str, int], float]:
    """Seconds of the yardstick's round at the machine's usual speed, by algorithm and ranks.

    The median of all visits: those that a study makes to rows are spread over all of its time.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for one in done:
        if one.found is not None:
            each = found.setdefault((one.row.algorithm, one.row.ranks), [])
            each += [pulse for _, pulse in one.found.visits]
    return {key: statistics.median(each) for key, each in found.items()}


def settled(done: Sequence[Result]) -> list[Result]:
    """The rows at the machine's usual speed."""
    usual = pulses(done)
    return [
        one
        if one.found is None
        else replace(one, found=one.found.at(usual[one.row.algorithm, one.row.ranks]))
        for one in done
    ]


def unsure(one: Result, turn: int, usual: Mapping[tuple[str, int], float]) -> bool:
    """Whether it was measured `turn` times, and no two of them are alike at the usual speed."""
    if one.found is None or len(one.found.visits) != turn:
        return False
    return not one.found.agrees(usual[one.row.algorithm, one.row.ranks])


def write(results: Sequence[Result], machine: Machine, path: Path) -> None:
    """scale.csv: a line per row; seconds, bytes, and fractions of the machine's measured rates."""
    seconds = [f"{name}_seconds" for name in (*PHASES, "other")]
    shares = [f"{name}_fraction" for name in PHASES if name != "schedule"]
    lines = [line((*FIELDS, *seconds, *shares, "error"))]
    lines += [line(_cells(one, machine)) for one in results]
    atomic(path, lambda to: to.write_text("".join(lines), encoding="utf-8"))


def _cells(one: Result, machine: Machine) -> tuple[object, ...]:
    row, found = one.row, one.found
    sizes = row.algorithm, row.clients, row.cohort, row.ranks
    if found is None:
        empty = len(FIELDS) - len(sizes) - 3 + 2 * len(PHASES)
        return (*sizes, "", int(row.held_out), one.status, *[""] * empty, one.error)
    of = one.fractions(machine)
    times = {**found.phases, "evaluate": found.evaluation}
    return (
        *(*sizes, found.threads, int(row.held_out), one.status, found.rounds),
        *map(_number, (found.seconds, row.cohort / found.seconds, found.samples / found.seconds)),
        *(found.host, found.device, found.disk, _number(found.setup), found.chunk),
        *(_number(one.predicted), len(found.visits), _number(min(s for s, _ in found.visits))),
        *(_number(times[name]) for name in (*PHASES, "other")),
        *(_number(of.get(name, math.nan)) for name in PHASES if name != "schedule"),
        "",
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def tables(results: Sequence[Result], machine: Machine) -> list[Table]:
    """Throughput and memory; and where the time goes."""
    done = [one for one in results if one.found is not None]
    return [_throughput(done), _phases(done, machine)] if done else []


def _throughput(done: Sequence[Result]) -> Table:
    tiers = {"GPU MiB": "device", "disk MiB": "disk"}
    used = {head: name for head, name in tiers.items() if any(_bytes(one, name) for one in done)}
    table = _table("ms/round", "clients/s", "samples/s", "host MiB", *used, "model")
    for one in done:
        found = one.found
        assert found is not None
        off = one.predicted / found.seconds - 1
        table.add_row(
            *_head(one),
            f"{1e3 * found.seconds:.4g}",
            f"{one.row.cohort / found.seconds:,.0f}",
            f"{found.samples / found.seconds:,.0f}",
            f"{found.host / MIB:,.0f}",
            *(f"{_bytes(one, name) / MIB:,.0f}" for name in used.values()),
            "" if math.isnan(off) else f"{off:+.0%}{'*' if one.row.held_out else ' '}",
        )
    table.caption = "model: predicted over measured; * held out of the fit"
    return table


def _phases(done: Sequence[Result], machine: Machine) -> Table:
    """Milliseconds, and below them the fraction of the machine's FLOP rate or bandwidth."""
    names = (*PHASES, "other")
    taken = [n for n in names if any(_time(one, n) > VISIBLE * one.found.seconds for one in done)]  # type: ignore[union-attr]
    table = _table(*(SHORT.get(name, name) for name in taken))
    for one in done:
        of = one.fractions(machine)
        cells = [
            f"{1e3 * _time(one, name):.3g}" + (f"\n({of[name]:.0%})" if name in of else "")
            for name in taken
        ]
        table.add_row(*_head(one), *cells)
    table.caption = "ms (of the FLOP rate: fwd/bwd, eval.; of the bandwidth: others)"
    return table


def _time(one: Result, name: str) -> float:
    assert one.found is not None
    taken = one.found.evaluation if name == "evaluate" else one.found.phases[name]
    return 0.0 if math.isnan(taken) else taken


def _bytes(one: Result, name: str) -> int:
    assert one.found is not None
    return int(getattr(one.found, name))


def _head(one: Result) -> tuple[str, str]:
    """`fedavg` and `10/1,000 on 2`."""
    row = one.row
    ranks = f" on {row.ranks}" if row.ranks > 1 else ""
    return row.algorithm, f"{row.cohort:,}/{row.clients:,}{ranks}"


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("algorithm", "cohort"):  # on a narrow terminal numbers may fold, never these
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    return table
