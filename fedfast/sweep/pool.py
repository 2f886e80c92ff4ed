"""Rows side by side: a process for each of so many slots, by loky, the engine of joblib.

Every slot has an executor of its own. A process that is killed (out of memory, a crash in a
library) breaks its executor and ends its row; the other rows go on.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path

from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor

from ..config import RunConfig
from . import work
from .grid import SweepRow
from .outcome import Launcher, Outcome
from .ray_pool import RayPool

LOOK = 0.25  # seconds between two states of the view


def devices(config: RunConfig) -> list[str]:
    """The GPUs that rows are dealt to; [] where the configuration names one device, or the CPU."""
    import torch

    if config.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())]


def jobs(config: RunConfig) -> int:
    """How many rows at once: one for each GPU, or as many as the cores have threads for."""
    gpus = devices(config)
    if gpus or str(config.device).startswith("cuda"):
        return max(1, len(gpus))
    return max(1, int(cpu_count()) // (config.threads or 1))


@dataclass(eq=False)
class Slot:
    """A place for one row at a time, and the process that trains there, started when needed."""

    device: str | None
    threads: int
    sharing: int  # processes on the same device
    executor: ProcessPoolExecutor | None = None

    def submit(self, row: SweepRow) -> Future[Outcome]:
        """The row's outcome, later."""
        if self.executor is None:
            self.executor = ProcessPoolExecutor(
                1,
                initializer=work.begin,
                initargs=(os.getpid(), self.sharing),
                env={"OMP_NUM_THREADS": str(self.threads)},
            )
        with _without_ctrl_c():
            found: Future[Outcome] = self.executor.submit(work.run, row, self.device)
        return found

    def end(self) -> None:
        """Ends the process, or forgets one that is gone; the next row has a new one."""
        if self.executor is not None:
            self.executor.shutdown()
        self.executor = None

    def signal(self, number: int) -> None:
        """Sends a signal to the process, which may still be starting, if there is one."""
        for process in list(self.executor._processes) if self.executor else []:  # ids
            with suppress(ProcessLookupError):
                os.kill(process, number)


@dataclass
class Pool:
    """So many slots; `run` fills them with rows as they become free."""

    slots: list[Slot]
    busy: dict[Future[Outcome], tuple[Slot, SweepRow]] = field(default_factory=dict)

    def run(
        self, rows: Iterable[SweepRow], look: Callable[[Sequence[SweepRow]], object]
    ) -> Iterator[tuple[SweepRow, Outcome]]:
        """Yields rows as they end. `look(running rows)` is called several times a second."""
        waiting = iter(rows)
        while True:
            self._fill(waiting)
            look([row for _, row in self.busy.values()])
            if not self.busy:
                return
            for future in wait(self.busy, LOOK, FIRST_COMPLETED).done:
                slot, row = self.busy.pop(future)
                yield row, self._outcome(slot, row, future)

    def stop(self) -> None:
        """Has the rows keep their state and end; a second Ctrl-C does not wait for that."""
        try:
            self._signal(signal.SIGTERM)
        except KeyboardInterrupt:
            self._signal(signal.SIGKILL)
        self.busy.clear()

    def _signal(self, number: int) -> None:
        for slot, _ in self.busy.values():
            slot.signal(number)
        wait(self.busy)

    def close(self) -> None:
        """Ends the processes."""
        for slot in self.slots:
            slot.end()

    def _fill(self, waiting: Iterator[SweepRow]) -> None:
        working = [slot for slot, _ in self.busy.values()]
        for slot in self.slots:
            if slot not in working and (row := next(waiting, None)) is not None:
                self.busy[slot.submit(row)] = slot, row

    def _outcome(self, slot: Slot, row: SweepRow, future: Future[Outcome]) -> Outcome:
        try:
            return future.result()
        except Exception as error:  # of the executor: the row's own are an outcome
            slot.end()
            codes = re.search(r"exit codes? of the workers? (?:are|is) {(.*?)}", str(error))
            how = codes[1] if codes else type(error).__name__
            why = f"its process ended ({how}): out of memory, or a crash in a library"
            work.failed(row, f"{why}\n\n{error}\n")
            return Outcome("failed", why)


def pool(config: RunConfig, count: int) -> Pool:
    """`count` slots, the GPUs dealt to them in turn."""
    gpus: list[str | None] = [*devices(config)] or [None]
    on = [i % len(gpus) for i in range(count)]
    return Pool([Slot(gpus[i], config.threads or 1, on.count(i)) for i in on])


def launcher(config: RunConfig, out: Path, total: int) -> tuple[Launcher[SweepRow], int]:
    """What hands out `total` rows, and how many at once, as the section `sweep` has it.

    Raises ValueError where a Ray cluster is asked for and there is none.
    """
    assert config.sweep is not None
    if config.sweep.launcher == "local":
        count = min(config.sweep.jobs or jobs(config), max(1, total))
        return pool(config, count), count
    out.mkdir(parents=True, exist_ok=True)
    gpus = 1.0 if devices(config) or str(config.device).startswith("cuda") else 0.0
    made: RayPool[SweepRow] = RayPool(
        work.run_alone, out, config.threads or 1, gpus, config.sweep.jobs, work.failed
    )
    return made, min(made.jobs, max(1, total))


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes started inside never hear Ctrl-C, which a terminal sends to them too."""
    resource_tracker.ensure_running()  # it would let the signal through where it starts inside
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
