"""Rows one after another, each in a process of its own, on this machine.

A row that is killed (out of memory, a crash in a library) ends alone. Rows are never side by side:
they would slow each other down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..sweep.outcome import Outcome
from .rows import ScaleRow

LOOK = 0.25  # seconds between two states of the view
PREFIX = "fedfast: "


@dataclass(frozen=True)
class Limits:
    """Rounds and seconds that a row is timed for at most."""

    rounds: int
    seconds: float


def command(row: ScaleRow, limits: Limits) -> list[str]:
    """The row's process; with several ranks torch's launcher starts one for each."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={row.ranks}"]
    sizes = {"clients": row.clients, "cohort": row.cohort, "ranks": row.ranks}
    numbers = {**sizes, "rounds": limits.rounds, "seconds": limits.seconds}
    return [
        sys.executable,
        *(many if row.ranks > 1 else []),
        "-m",
        "fedfast.scaling.worker",
        str(row.study),
        f"--algorithm={row.algorithm}",
        *(f"--{name}={number}" for name, number in numbers.items()),
        *(["--held-out"] if row.held_out else []),
        "--watched",
    ]


def start(row: ScaleRow, limits: Limits) -> subprocess.Popen[bytes]:
    """The process, deaf to the terminal's Ctrl-C, its output in the row's file.

    It ends with this one, see `ends_with_its_parent`: one that is left would slow other rows down.
    """
    row.result.parent.mkdir(parents=True, exist_ok=True)
    with row.output.open("wb") as output:
        return subprocess.Popen(
            command(row, limits),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def ends_with_its_parent() -> None:
    """Has this process end when standard input does: a pipe from the one that started it, which the
    system closes however that one ends."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def outcome(row: ScaleRow, code: int) -> Outcome:
    """How a process ended: with a result, with a line that says why not, or by a signal."""
    if code == 0 and row.result.exists():
        row.output.unlink(missing_ok=True)
        return Outcome("done")
    lines = row.output.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
    if code > 0 and said:
        return Outcome("failed", said[-1])
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    if code < 0:
        return Outcome("failed", f"its process ended ({how}): out of memory, or a crash")
    return Outcome("failed", f"its process ended ({how}): {lines[-1] if lines else 'nothing said'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a row's processes, ranks included."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def run_row(row: ScaleRow, limits: Limits) -> Outcome:
    """One row, here and now."""
    process = start(row, limits)
    try:
        return outcome(row, process.wait())
    finally:
        stop(process)


@dataclass
class OneByOne:
    """The default launcher."""

    limits: Limits
    busy: dict[subprocess.Popen[bytes], ScaleRow] = field(default_factory=dict)

    def run(
        self, rows: Iterable[ScaleRow], look: Callable[[Sequence[ScaleRow]], object]
    ) -> Iterator[tuple[ScaleRow, Outcome]]:
        """Yields rows as they end. `look(running rows)` is called several times a second."""
        for row in rows:
            process = start(row, self.limits)
            self.busy[process] = row
            while process.poll() is None:
                look([row])
                time.sleep(LOOK)
            _close(process)
            del self.busy[process]
            yield row, outcome(row, process.returncode)

    def stop(self) -> None:
        """Ends what runs; a row that was not done is measured anew."""
        for process in self.busy:
            stop(process)
        self.busy.clear()

    def close(self) -> None:
        """Nothing is left to end."""
