"""A study in its folder: measured row by row, resumable, a cost model fitted at its end.

config.yaml                    the configuration; the same command goes on where it was stopped
machine.json                   bandwidth, FLOP rate and cost of a call, measured at the start
rows/ALGORITHM/...json         a file per row; flops.json: of a sample, counted once
scale.csv, *.png, model.json   written at the end of every call
.lock                          while a process works in it
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import config as configs
from ..config import RunConfig
from ..files import atomic, locked, sweep_folder
from ..runs.changes import check
from ..sweep.outcome import Launcher
from . import cost_model, results
from .machine import Machine, cores, machine_from, measured
from .results import Result
from .rows import ScaleRow

TIMING = ("device", "threads", "backend", "chunk", "memory")  # fields that rows are timed under
EVERY = 5.0  # seconds between two versions of scale.csv


@contextmanager
def claimed(path: Path, config: RunConfig, comment: str) -> Iterator[None]:
    """The folder for the block, made or of the same configuration; algorithms may be added.

    Raises ValueError naming every field that differs, BlockingIOError where another process works
    in it, OSError where it cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True)
    with locked(path / ".lock", str(path)):
        kept = path / "config.yaml"
        if kept.exists():
            config = _joined(path, configs.load_kept(kept), config)
        elif left := [p.name for p in path.iterdir() if not p.name.startswith(".")]:
            raise ValueError(f"out: expected a new folder or a study's, found {left[0]} in {path}")
        sweep_folder(path)
        text = configs.dumps(config.model_copy(update={"out": str(path)}), comment)
        atomic(kept, lambda to: to.write_text(text, encoding="utf-8"))
        yield


def _joined(path: Path, old: RunConfig, new: RunConfig) -> RunConfig:
    """`new` with the algorithms of both."""
    shared = {k: v for k, v in new.algorithms.items() if k in old.algorithms}
    before = {k: old.algorithms[k] for k in shared}
    nothing = {"participation": 1.0, "rounds": 1, "callbacks": []}
    ours, theirs = (
        one.model_copy(update={"algorithms": algorithms, **nothing})
        for one, algorithms in ((old, before), (new, shared))
    )
    try:
        check(path, ours, theirs, {})
    except ValueError as error:
        first = str(error).splitlines()[0].replace("a run", "a study", 1)
        raise ValueError(f"{first}; give another --out") from None
    for name in TIMING:
        if (was := getattr(old, name)) != (now := getattr(new, name)):
            text = f"{path}: holds a study with {name} {was}, not {now}; give another --out"
            raise ValueError(text)
    return new.model_copy(update={"algorithms": {**old.algorithms, **new.algorithms}})


def machine_of(path: Path, config: RunConfig, ranks: Sequence[int]) -> Machine:
    """The study's machine, measured for the threads that are not known yet."""
    import torch

    file = path / "machine.json"
    kept = _kept(file)
    wanted = {r * (config.threads or max(1, cores() // r)) for r in ranks}
    missing = sorted(wanted - set(kept.rates if kept else ()))
    if kept and not missing:
        return kept
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    found = measured(torch.device(auto if config.device == "auto" else config.device), missing)
    if kept:
        found = replace(found, rates={**kept.rates, **found.rates})
    text = json.dumps(found.as_json(), indent=1) + "\n"
    atomic(file, lambda to: to.write_text(text, encoding="utf-8"))
    return found


def _kept(file: Path) -> Machine | None:
    try:
        return machine_from(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass
class Study:
    """Rows under way; `measure` measures what is missing.

    rows     of this call; those of earlier ones count as well
    repeats  times that a row is measured at most
    results  by name, in the order of algorithms and sizes
    """

    path: Path
    machine: Machine
    rows: Sequence[ScaleRow]
    launcher: Launcher[ScaleRow]
    repeats: int = 1
    results: dict[str, Result] = field(default_factory=dict)
    model: cost_model.CostModel | None = None
    written: float = 0.0

    def measure(self, show: Progress) -> None:
        """All rows that were not measured before; then, after all, again those that are unsure.

        So the visits to a row are spread over the time that the study takes.
        """
        done = [row for row in self.rows if results.is_done(row)]
        self.results = {one.row.name: one for one in results.earlier(self.path, self.rows)}
        self.results |= {row.name: Result(row, "waiting") for row in self.rows}
        self.results |= {row.name: results.read(row) for row in done}
        show.skip(len(done))
        self._turn([row for row in self.rows if self.results[row.name].found is None], show)
        for turn in range(1, self.repeats):
            usual = results.pulses(list(self.results.values()))
            left = [r for r in self.rows if results.unsure(self.results[r.name], turn, usual)]
            show.again(len(left))
            self._turn(left, show)

    def _turn(self, left: Sequence[ScaleRow], show: Progress) -> None:
        for row, outcome in self.launcher.run(left, self._look):
            self.results[row.name] = results.read(row, outcome.status, outcome.error)
            show.ended(self.results[row.name])
            if time.monotonic() - self.written > EVERY:
                self.write()

    def end(self) -> None:
        """Ends what still runs, and writes what there is."""
        self.launcher.stop()
        for name, one in self.results.items():
            if one.status == "running":
                kept = results.read(one.row)
                self.results[name] = kept if kept.found else Result(one.row, "stopped")
        self.launcher.close()
        self.write()

    def conclude(self) -> list[Path]:
        """Fits the model, draws the figures; the files that were written."""
        from . import figures

        settled = results.settled(list(self.results.values()))
        self.results = {one.row.name: one for one in settled}
        done = [one for one in settled if one.found is not None]
        points = [p for one in done if not one.row.held_out and (p := one.point())]
        if not points:
            return []
        self.model = cost_model.fit(points, self.machine)
        self.model.save(self.path / "model.json")
        known = self.model.algorithms
        for one in done:
            if one.row.algorithm in known and (point := one.point()):
                seconds = cost_model.predicted(self.model, point).seconds
                self.results[one.row.name] = replace(one, predicted=seconds)
        self.results = dict(sorted(self.results.items(), key=lambda item: item[1].row.order))
        self.write()
        return figures.write(list(self.results.values()), self.path)

    def write(self) -> None:
        """scale.csv as of now."""
        results.write(list(self.results.values()), self.machine, self.path / "scale.csv")
        self.written = time.monotonic()

    def accuracy(self) -> list[str]:
        """How far the model is off, a line for the rows it was fitted to and the held-out ones."""
        lines = []
        for what, held in {"fitted to": False, "held out": True}.items():
            off = sorted(
                abs(one.predicted / one.found.seconds - 1)
                for one in self.results.values()
                if one.found and one.row.held_out == held and not math.isnan(one.predicted)
            )
            if off:
                middle = off[len(off) // 2]
                lines.append(
                    f"{len(off)} row{'s' * (len(off) > 1)} {what}: the model is {middle:.1%} off "
                    f"in the median, {off[-1]:.1%} at most"
                )
        return lines

    def _look(self, running: Sequence[ScaleRow]) -> None:
        for row in running:
            self.results[row.name] = Result(row, "running")


class Progress:
    """A line for each row that ends."""

    def __init__(self, total: int) -> None:
        self.total, self.ended_rows = total, 0

    def skip(self, rows: int) -> None:
        """Rows that an earlier call has measured."""
        self.ended_rows += rows
        if rows:
            print(f"[{self.ended_rows}/{self.total}] measured before: {rows}", flush=True)

    def again(self, rows: int) -> None:
        """Rows follow whose times do not agree yet."""
        self.total, self.ended_rows = rows, 0
        if rows:
            print(f"[0/{rows}] measured again: {rows}", flush=True)

    def ended(self, one: Result) -> None:
        """A row has ended."""
        self.ended_rows += 1
        found = one.found
        figures = f"failed, {one.error}" if found is None else _figures(one)
        print(f"[{self.ended_rows}/{self.total}] {one.row}: {figures}", flush=True)


def _figures(one: Result) -> str:
    found = one.found
    assert found is not None
    rate = one.row.cohort / found.seconds
    return f"{1e3 * found.seconds:.4g} ms a round, {rate:,.0f} clients/s, {found.host >> 20:,} MiB"
