"""The run folder: readable after every round, whatever happens in the next one.

    config.yaml             the resolved configuration; `fedfast run` on it repeats the run
    history.csv             one line per algorithm and round, written as the round ends
    checkpoint/<label>.pt   {"round", "model"}: the global model after that round
    summary.md, curves.png  written when the run ends, however it ends
    error.txt               the traceback, where an error ended it

A folder belongs to the run whose `config.yaml` it was first to hold. An earlier run is never
touched: if `runs/name` is taken, the run goes to `runs/name-2`, `runs/name-3`, ...
"""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import atomic
from .history import FIELDS, History, Row, line

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_EVERY = 30.0  # seconds; a killed process loses at most so much of the model


class RunFolder:
    """Takes a folder for a run and keeps it up to date.

    Raises OSError naming the folder where it cannot be made or written.
    """

    def __init__(self, out: str | Path, config: str) -> None:
        self.path = _claim(Path(out), config)
        self.histories: dict[str, History] = {}
        self.remarks: dict[str, str] = {}  # label -> a line for the summary
        self.traceback = ""  # the traceback of what ended the run early, for error.txt
        self._latest: dict[str, dict[str, Any]] = {}  # label -> its newest checkpoint
        self._saved: dict[str, float] = {}
        self._csv = (self.path / "history.csv").open("x", encoding="utf-8", newline="")
        self._write(("algorithm", *FIELDS))

    @property
    def rounds(self) -> int:
        """How many rounds it holds, of all labels together."""
        return sum(map(len, self.histories.values()))

    def begin(self, label: str) -> None:
        """The rounds of `label` come next."""
        self.histories[label] = History()
        self._saved[label] = time.monotonic()

    def record(self, label: str, row: Row, model: Mapping[str, Tensor]) -> None:
        """A round is done: its line is on disk when this returns, its model within 30 s."""
        with undisturbed():
            self._write((label, *astuple(row)))
            self.histories[label].append(row)
            copied = {name: tensor.detach().clone() for name, tensor in model.items()}
            self._latest[label] = {"round": row.round, "model": copied}
            if time.monotonic() - self._saved[label] > CHECKPOINT_EVERY:
                self._checkpoint(label)

    def end(self, label: str) -> None:
        """The rounds of `label` are over, early or not."""
        with undisturbed():
            if label in self._latest:
                self._checkpoint(label)
                self._latest[label] = {"round": self._latest[label]["round"]}

    def finish(self, about: str) -> None:
        """Writes what is read afterwards: summary and curves. `about` heads the summary."""
        from .report import plots, run_table

        with undisturbed():
            if self.traceback:
                (self.path / "error.txt").write_text(self.traceback, encoding="utf-8")
            for label in [name for name, latest in self._latest.items() if "model" in latest]:
                self.end(label)
            self._csv.close()
            text = f"{about}\n\n{run_table.markdown(self.histories)}"
            remarks = [f"- **{label}**: {what}\n" for label, what in self.remarks.items()]
            text += "".join(["\n", *remarks] if remarks else [])
            if self.rounds:
                atomic(self.path / "curves.png", lambda to: plots.curves(self.histories, to))
                text += "\n![Accuracy and loss per round](curves.png)\n"
            atomic(self.path / "summary.md", lambda to: to.write_text(text, encoding="utf-8"))

    def discard(self) -> None:
        """Takes the folder back where the run never began: nothing but our two files goes."""
        self._csv.close()
        for name in ("history.csv", "config.yaml"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def files(self) -> list[Path]:
        """What the folder holds, in a fixed order."""
        return sorted(path for path in self.path.rglob("*") if path.is_file())

    def _write(self, values: tuple[object, ...]) -> None:
        try:
            self._csv.write(line(values))
            self._csv.flush()
        except OSError as error:
            raise type(error)(error.errno, error.strerror, self._csv.name) from error

    def _checkpoint(self, label: str) -> None:
        import torch

        folder = self.path / "checkpoint"
        folder.mkdir(exist_ok=True)
        latest = self._latest[label]
        model = {name: tensor.cpu() for name, tensor in latest["model"].items()}
        content = io.BytesIO()
        torch.save({**latest, "model": model}, content)
        atomic(folder / f"{label}.pt", lambda to: to.write_bytes(content.getbuffer()))
        self._saved[label] = time.monotonic()


def _claim(out: Path, config: str) -> Path:
    """The first of `out`, `out-2`, ... that is free, holding `config.yaml`."""
    for number in count(1):
        path = out if number == 1 else out.with_name(f"{out.name}-{number}")
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                continue
            # "x": of two runs that start at once only one gets the folder.
            with (path / "config.yaml").open("x", encoding="utf-8") as file:
                file.write(config)
            return path
        except FileExistsError as error:
            if path.is_dir():
                continue
            raise FileExistsError(f"out: expected a folder, found a file: {path}") from error
        except NotADirectoryError as error:
            raise NotADirectoryError(f"out: a file is in the way of {path}") from error
        except OSError as error:
            raise type(error)(f"out: cannot write in {path}: {error.strerror}") from error
    raise AssertionError("count() has no end")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C or SIGTERM inside the block takes effect at its end: no file is left half written."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    old = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for which, handler in old.items():
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])
