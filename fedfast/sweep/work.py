"""What the worker processes of a sweep do: one row after the other, each in its folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from ..cli import stopping
from ..cli.setting import USER, Setting, prepare
from ..config import RunConfig
from ..files import atomic
from ..runs import RunFolder, open_folder, read, summary, train
from .grid import SweepRow
from .outcome import Outcome

LOOK = 0.5  # seconds between two looks whether the parent is there
GRACE = 120.0  # seconds that a row has to keep its state once the parent is gone
ERROR, OUTPUT = "error.txt", "output.txt"
# What data, clients and initial weights follow from.
SETTING = {"data", "partition", "model", "local_test", "seed"}


class Prepared:
    """The newest setting of a worker: the next row often has the same."""

    key: object = None
    setting: Setting | None = None

    def of(self, config: RunConfig) -> Setting:
        """Data, clients and model of a row."""
        key = config.model_dump(include=SETTING)
        if self.setting is None or key != self.key:
            self.setting = None  # two at once may not fit
            self.key, self.setting = key, prepare(config)
        return self.setting


PREPARED = Prepared()


def begin(parent: int, processes: int) -> None:
    """Readies a worker, one of so many `processes` on its device."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    from .. import memory

    sys.path.extend({os.getcwd()} - set(sys.path))  # `my_module:Name` in a config, as in cli.main
    memory.share_with(processes)


def run(row: SweepRow, device: str | None) -> Outcome:
    """Trains one row to its end. Whatever its error is, it ends this row alone."""
    parent = os.getppid()
    try:
        with stopping.sigterm() as stop, _opened(row) as folder, _output(row.folder / OUTPUT):
            return _run(folder, row, device, stop)
    except KeyboardInterrupt:
        return Outcome("stopped")
    except USER as error:
        return Outcome("failed", str(error))
    finally:
        if os.getppid() != parent:  # nobody waits for the outcome
            os._exit(1)


def run_alone(row: SweepRow) -> Outcome:
    """`run` on the device that the configuration names, or the one this process was given."""
    return run(row, None)


def is_done(row: SweepRow) -> bool:
    """Whether nothing is left of the row. A folder that cannot be read is left to `run`."""
    try:
        history, about = read(row.folder, row.label)
    except (ValueError, OSError):
        return False
    ended = bool(about.stopped or about.ended)
    return about.done and (ended or len(history) == row.config.rounds)


def failed(row: SweepRow, why: str) -> None:
    """Keeps what ended a row in its folder."""
    try:
        row.folder.mkdir(parents=True, exist_ok=True)
        atomic(row.folder / ERROR, lambda to: to.write_text(why, encoding="utf-8"))
    except OSError as error:  # a full disk; the line on the terminal remains
        print(error, file=sys.stderr)


def _run(folder: RunFolder, row: SweepRow, device: str | None, stop: stopping.Stop) -> Outcome:
    """Trains, and leaves summary, curves and traceback as `fedfast run` does; not where a signal
    ends it, which is to be quick."""
    ending, setting = "", None
    try:
        setting = PREPARED.of(row.config)
        config = row.config.model_copy(update={"device": device} if device else {})
        with closing(train(folder, config, setting, row.label)) as rounds:
            for _ in rounds:
                stop.check()
    except (Exception, SystemExit) as error:
        folder.traceback = traceback.format_exc()
        ending = str(error) if isinstance(error, USER) else f"{type(error).__name__}: {error}"
        failed(row, folder.traceback)
    if setting is not None and folder.rounds:
        summary.write(folder, setting, str(row), ending)
    return Outcome("failed", ending) if ending else Outcome("done")


@contextmanager
def _opened(row: SweepRow) -> Iterator[RunFolder]:
    """The row's folder. A worker whose parent was killed may still be leaving it."""
    until = time.monotonic() + GRACE
    with ExitStack() as stack:
        while True:
            try:
                opening = open_folder(row.folder, row.config, mode="resume", comment=str(row))
                folder = stack.enter_context(opening)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK)
        yield folder


def _watch(parent: int) -> None:
    """Ends this process once its parent is gone, killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


@contextmanager
def _output(path: Path) -> Iterator[None]:
    """What is printed inside goes to `path`: many rows on one terminal cannot be told apart."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.dup2(number, 1)
        os.dup2(number, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        empty = not os.fstat(number).st_size
        for to, before in enumerate(kept, start=1):
            os.dup2(before, to)
            os.close(before)
        os.close(number)
        if empty:
            path.unlink(missing_ok=True)
