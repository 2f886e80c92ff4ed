"""TensorBoard: event files of a run's numbers, written by `torch.utils.tensorboard`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ..._messages import path_of
from ...history import Row
from ..base import CALLBACKS, RunInfo
from .base import Logger
from .values import numbers, options, outcome, title

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from ..base import Sim


@CALLBACKS.register("tensorboard")
class TensorBoard(Logger):
    """Numbers of each round as scalars, at step = round; the options as text and hyperparameters.

    dir  folder of the event files, with one in it for each run folder and label;
         null = tensorboard/<label> of the run folder

    Where a run goes on, what later rounds have logged before is purged (`purge_step`). Without a
    run folder a new run gets LABEL, LABEL-2, ...; one that was loaded goes on in the last of them.
    Raises ValueError/TypeError naming the argument.
    """

    name, package = "tensorboard", "tensorboard"

    def __init__(self, dir: str | Path | None = None) -> None:
        super().__init__()
        self.dir = None if dir is None else path_of("dir", dir)
        self._writer: SummaryWriter | None = None

    def begin(self, sim: Sim, run: RunInfo) -> int:
        """Opens an event file."""
        from torch.utils.tensorboard import SummaryWriter

        to = self._folder(sim, run)
        there = min(last_step(to), sim.round)
        self._writer = SummaryWriter(str(to), purge_step=there + 1 if there else 0)
        if not there:
            self._log_options(options(sim, run))
        return there

    def write(self, row: Row) -> None:
        """Adds its scalars."""
        assert self._writer is not None
        for name, value in numbers(row).items():
            self._writer.add_scalar(name, value, row.round)

    def flush(self) -> None:
        """Waits until the event file is written."""
        assert self._writer is not None
        self._writer.flush()

    def finish(self, sim: Sim) -> None:
        """Adds how it ended as text, and closes the file."""
        assert self._writer is not None
        try:
            self._writer.add_text("outcome", _table(outcome(sim.history)), sim.round)
            self._writer.flush()
        finally:
            self._writer.close()

    def discard(self) -> None:
        """Removes its folders, as far as they hold nothing else."""
        assert self._writer is not None
        own = Path(self._writer.log_dir)
        shutil.rmtree(own)
        with suppress(OSError):
            own.parent.rmdir()

    def _folder(self, sim: Sim, run: RunInfo) -> Path:
        if run.folder is not None:
            own = run.folder / "tensorboard" / run.label
            return own if self.dir is None else self.dir / title(run)
        if self.dir is None:
            raise ValueError("dir: expected a folder, as there is no run folder; got None")
        names = (run.label if n == 1 else f"{run.label}-{n}" for n in count(1))
        taken: list[Path] = []
        for name in names:
            if not (self.dir / name).exists():
                return taken[-1] if sim.round and taken else self.dir / name
            taken.append(self.dir / name)
        raise AssertionError("count() has no end")

    def _log_options(self, found: dict[str, object]) -> None:
        from torch.utils.tensorboard.summary import hparams

        assert self._writer is not None
        self._writer.add_text("options", _table(found), 0)
        kinds = (bool, int, float, str)
        named = {k: v if isinstance(v, kinds) else str(v) for k, v in found.items()}
        experiment, session, _ = hparams(named, {"accuracy": 0.0, "loss": 0.0})
        file = self._writer._get_file_writer()
        file.add_summary(experiment)
        file.add_summary(session)


def last_step(folder: Path) -> int:
    """The last round that the event files in the folder hold, 0 without any."""
    if not any(folder.glob("events.out.tfevents.*")):
        return 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    if "lr" not in found.Tags()["scalars"]:
        return 0
    return max(event.step for event in found.Scalars("lr"))


def _table(values: dict[str, object] | dict[str, float | str]) -> str:
    """In markdown, as TensorBoard shows texts."""
    lines = [f"| {name} | {value} |" for name, value in values.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])
