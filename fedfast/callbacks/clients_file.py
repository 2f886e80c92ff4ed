"""clients.csv: a line for every client that was evaluated, after each tested round."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .._messages import path_of
from ..files import atomic
from ..history import Row, line, lines
from ..signals import undisturbed
from ..validation.data import client_metrics as check_tested
from .base import CALLBACKS, Callback, RunInfo

if TYPE_CHECKING:
    from .base import Sim

COLUMNS = (
    *("algorithm", "round", "client", "samples", "accuracy", "loss"),
    *("personal_accuracy", "personal_loss"),
)


@CALLBACKS.register("clients_csv")
class ClientsFile(Callback):
    """Writes the accuracy and mean loss of every client that has test samples of its own.

    path  of the file; null = clients.csv of the run folder. Runs of several labels may share it

    Columns: algorithm (the label), round, client, samples, accuracy, loss, personal_accuracy and
    personal_loss; the last two are empty where there are no personal models. Where a run goes on
    from an earlier round, the later lines of its label are dropped and written again.
    Raises ValueError where a round was tested and the clients have no test parts, OSError naming
    the file where it cannot be written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else path_of("path", path)
        self._label, self._written = "", 0  # and the last round that the file holds of it
        self._file: TextIO | None = None

    def on_start(self, sim: Sim, run: RunInfo) -> None:
        """Makes the file, or drops what an earlier run of the label has there after this round."""
        check_tested(True, sim._design.options.clients)
        to = self.path or (run.folder and run.folder / "clients.csv")
        if to is None:
            raise ValueError("path: expected one, as there is no run folder; got None")
        # But the last: its lines may be torn, and are written again.
        tested = {row.round for row in sim.history[:-1] if row.evaluated}
        kept = list(_others(to, run.label, tested))
        mine = [int(row[1]) for row in kept if row[0] == run.label]
        text = lines([COLUMNS, *kept])
        to.parent.mkdir(parents=True, exist_ok=True)
        atomic(to, lambda new: new.write_text(text, encoding="utf-8", newline=""))
        self._label, self._written = run.label, max(mine, default=0)
        self._file = to.open("a", encoding="utf-8", newline="")
        self._catch_up(sim)

    def on_evaluate(self, sim: Sim, row: Row) -> None:
        """Adds a line for each client; none where an algorithm has pooled all of them."""
        self._catch_up(sim)

    def _catch_up(self, sim: Sim) -> None:
        """Writes the last round if it was tested; a signal may have come before that was done."""
        row = sim.history.rows[-1] if sim.round else Row(0)
        if self._file is None or sim.algorithm.pools or not row.round > self._written:
            return
        if not row.evaluated:
            return
        frame = sim.evaluate_clients().to_pandas()
        columns = [frame[n].tolist() if n in frame else [""] * len(frame) for n in COLUMNS[3:]]
        cells = zip(frame.index.tolist(), *columns, strict=True)
        text = lines([self._label, row.round, *values] for values in cells)
        try:
            with undisturbed():
                self._file.write(text)
                self._file.flush()
                self._written = row.round
        except OSError as error:
            failed, self._file = self._file, None
            with suppress(OSError):  # it tries to write again
                failed.close()
            raise type(error)(error.errno, error.strerror, failed.name) from error

    def on_save(self, sim: Sim) -> None:
        """The lines are on the disk before a state is that goes on after them."""
        if self._file is not None:
            with suppress(OSError):  # the state must be saved all the same
                os.fsync(self._file.fileno())

    def on_end(self, sim: Sim) -> None:
        """Closes the file; removes it where it has no line and no round was done."""
        self._catch_up(sim)
        if self._file is not None:
            path = Path(self._file.name)
            self._file.close()
            if not sim.round and path.read_text(encoding="utf-8") == line(COLUMNS):
                path.unlink()
        self._file = None


def _others(path: Path, label: str, tested: Set[int]) -> Iterator[list[str]]:
    """The lines that stay: of other labels, and of this one those of the tested rounds.

    A last line without its end (the process was killed while writing) is left out.
    """
    if not path.exists():
        return
    try:
        text = path.read_bytes().decode("utf-8")
        rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        if tuple(next(rows, COLUMNS)) != COLUMNS:
            raise ValueError(f"expected the columns {', '.join(COLUMNS)}")
        for row in rows:
            if row[0] != label or int(row[1]) in tested:
                yield row
    except (csv.Error, ValueError, IndexError) as error:
        raise ValueError(f"{path}: expected a file of clients: {error}; move it away") from error
