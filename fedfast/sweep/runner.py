"""Trains rows with a pool, shows them, and keeps sweep.csv up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..config import RunConfig
from ..report.sweep_progress import SweepProgress
from . import results, work
from .grid import SweepRow
from .outcome import Launcher
from .pool import launcher
from .results import Result

EVERY = 2.0  # seconds between two versions of sweep.csv


class Runner:
    """`with Runner(config, out, total) as runner:` then `runner.train(rows)`, once or more.

    config   what is kept of it: where it searches, `jobs` as they are here
    results  folder -> the newest of every row that was given to `train`
    """

    def __init__(self, config: RunConfig, out: Path, total: int) -> None:
        assert config.sweep is not None
        self.section, self.out, self.total = config.sweep, out, total
        self.pool: Launcher[SweepRow]
        self.pool, self.jobs = launcher(config, out, total)
        if self.section.search:  # its proposals depend on how many there are at once
            self.section = self.section.model_copy(update={"jobs": self.jobs})
        self.config = config.model_copy(update={"sweep": self.section})
        self.show = SweepProgress(total, total * config.rounds)
        self.results: dict[Path, Result] = {}
        self.written = 0.0

    def __enter__(self) -> Runner:
        self.show.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.show.__exit__(None, None, None)
        if self.pool.busy:
            print("stopping: the running rows keep their state", flush=True)
        self.pool.stop()
        for folder, one in self.results.items():
            if one.status == "running":
                status = "done" if work.is_done(one.row) else "stopped"
                self.results[folder] = results.result(one.row, status)
        self.pool.close()
        self.write()

    def train(self, rows: Sequence[SweepRow]) -> list[Result]:
        """Trains what is missing of `rows`; their results, in order."""
        done = {row.folder: results.result(row, "done") for row in rows if work.is_done(row)}
        waiting = {row.folder: Result(row, "waiting") for row in rows}
        self.results |= waiting | done
        self.show.skip(len(done), sum(one.row.config.rounds for one in done.values()))
        todo = [row for row in rows if row.folder not in done]
        for row, outcome in self.pool.run(todo, self._look):
            one = results.result(row, outcome.status, outcome.error)
            self.results[row.folder] = one
            self.show.ended(row, one.status, one.figures())
            if time.monotonic() - self.written > EVERY:
                self.write()
        return [self.results[row.folder] for row in rows]

    def write(self) -> None:
        """sweep.csv as of now."""
        results.write(list(self.results.values()), self.out / "sweep.csv")
        self.written = time.monotonic()

    def _look(self, running: Sequence[SweepRow]) -> None:
        for row in running:
            if self.results[row.folder].status == "waiting":
                self.results[row.folder] = Result(row, "running")
        self.show.look(running)
