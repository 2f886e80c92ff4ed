"""`RunFolder`: the files of a run under its lock, kept in agreement with each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import checkpoint
from .. import config as configs
from ..config import RunConfig, yaml_reader
from ..files import atomic
from ..history import History, Row
from ..signals import undisturbed
from . import about as abouts
from . import history_file, kept_model
from .about import About
from .reading import read, state_of

if TYPE_CHECKING:
    from ..simulation import Simulation


class RunFolder:
    """The rows and states of a run's labels. Made by `open_folder`, which holds the lock.

    config     with which the labels go on
    new        whether there was no run here before
    histories  label -> its rounds, in the order of the config
    about      label -> what is known of it
    traceback  of what ended the run early, for error.txt
    earlier    where the run that was here is now, which comes back if no round is done
    removes_older  whether it took the place of another, which is removed
    alone      whether there was nothing before
    Raises ValueError naming the file that is damaged, OSError one that cannot be written.
    """

    def __init__(self, path: Path, config: RunConfig, comment: str, new: bool) -> None:
        self.path, self.config, self.new = path, config, new
        self.traceback = ""
        self.earlier: Path | None = None
        self.removes_older = self.alone = False
        self.histories: dict[str, History] = {}
        self.about: dict[str, About] = {}
        for label in config.algorithms:
            self.histories[label], self.about[label] = (
                (History(), About()) if new else read(path, label)
            )
        self._comment = comment
        self._csv = history_file.Appender(path)
        self._saved: dict[str, int] = {}  # label -> the round of its newest state
        self._accepted = new  # whether config.yaml is of `config`: written once a label takes it
        if new:
            # In this order: a folder is a run's once it has both.
            abouts.write(path, {})
            self._write_config()
            history_file.write(path, self.histories)

    @property
    def rounds(self) -> int:
        """How many rounds it holds, of all labels together."""
        return sum(map(len, self.histories.values()))

    def state(self, label: str) -> Path:
        """Where the label's simulation is saved."""
        return state_of(self.path, label)

    def complete(self, label: str) -> bool:
        """Whether all rounds are done, or no more can be because a model became non-finite."""
        many = len(self.histories[label])
        return many >= self.config.rounds or self.about[label].stopped

    def done(self, label: str) -> bool:
        """Whether it is complete, or was ended early by a callback."""
        return self.complete(label) or (self.about[label].done and bool(self.about[label].ended))

    def begin(self, label: str, sim: Simulation) -> None:
        """`sim` goes on with the label: the files are made to agree with the rounds it has done."""
        with undisturbed():
            if not self._accepted and self._config_differs():
                self._write_config()
            self._accepted = True
            self.histories[label].rows[:] = sim.history.rows
            self._csv.close()
            history_file.write(self.path, self.histories)
            self._saved[label] = sim.round
            self.about[label] = abouts.begun(self.about[label], sim)

    def goes_on(self, label: str) -> str:
        """How the run goes on after the last round of the label, for people."""
        done = len(self.histories[label])
        saved = self._saved.get(label, done)  # not begun here: read from its state
        command = f"`fedfast resume {self.path}`"
        if saved < done and saved == 0:
            return f"no state was saved, {command} begins again"
        return (
            f"{command} goes on from {'there' if saved >= done else f'round {saved}, saved last'}"
        )

    def take(self, label: str, sim: Simulation) -> None:
        """Keep what `sim` has done of a label that a process which is gone has begun here."""
        new = sim.history.rows[len(self.histories[label]) :]
        seconds = self.about[label].seconds + sum(row.seconds for row in new)
        self.begin(label, sim)
        self._saved[label] = 0
        self.save(label, sim, seconds)

    def append(self, label: str, row: Row) -> None:
        """A round is done: its line is on disk when this returns."""
        with undisturbed():
            self._csv.append(label, row)
            self.histories[label].append(row)

    def save(self, label: str, sim: Simulation, seconds: float, done: bool = False) -> None:
        """Keeps the state after the last complete round.

        seconds  that the label has taken, in all its parts
        done     whether nothing is left of it
        """
        with undisturbed():
            for row in sim.history.rows[len(self.histories[label]) :]:
                self.append(label, row)  # a callback's error came before it was told
            if not sim.round:
                return
            if self._saved[label] != sim.round:
                self.state(label).parent.mkdir(exist_ok=True)
                sim.save(self.state(label))
                kept_model.write(self.path, label, sim)
                self._saved[label] = sim.round
            self.about[label] = replace(
                self.about[label],
                seconds=round(seconds, 1),
                done=done,
                stopped=sim.stopped,
                ended=sim.stop_reason if done and sim.round < sim.rounds else "",
                history=abouts.history_sum(self.histories[label]) if done else "",
            )
            abouts.write(self.path, self.about)

    def remove_state(self, label: str) -> None:
        """Removes the state of a label that is done; its rows stay."""
        checkpoint.remove(self.state(label))

    def files(self) -> list[Path]:
        """What the folder holds, in a fixed order."""
        found = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(path for path in found if path.name != ".lock")

    def close(self) -> None:
        """Lets go of history.csv, its rows in the order of the labels."""
        with undisturbed():
            self._csv.close()
            if self.rounds:
                history_file.write(self.path, self.histories)

    def discard(self) -> None:
        """Takes the files back where no round was done: nothing but our own goes."""
        for path in self.path.iterdir() if self.alone else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)  # a logger's
            elif path.name != ".lock":
                path.unlink()
        for name in (history_file.NAME, abouts.NAME, "config.yaml", "error.txt", "summary.md"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            (self.path / "checkpoint").rmdir()

    def _config_differs(self) -> bool:
        kept, _ = yaml_reader.read(self.path / "config.yaml")
        ours = yaml_reader.value(configs.dumps(self.config.model_copy(update={"out": None})))
        return {**kept, "out": None} != ours

    def _write_config(self) -> None:
        """Replaces config.yaml; its comments tell of every command that changed it."""
        path = self.path / "config.yaml"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        comments = [text[2:] for text in _until_first_field(lines)]
        text = configs.dumps(self.config, "\n".join([*comments, self._comment]))
        atomic(path, lambda to: to.write_text(text, encoding="utf-8"))


def _until_first_field(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if not line.startswith("# "):
            return
        yield line
