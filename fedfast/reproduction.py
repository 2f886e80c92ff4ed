"""Rows of a paper's table, run and kept: every (config, label, seed) has a folder of its own.

config.yaml   the resolved configuration of this row and seed
state.pt      where to go on, and state.pt.previous; gone once the paper's own rounds are done
history.csv   one line per round, written with state.pt every two minutes and at the end. As long
              as there is a state its rows count: a killed process may leave older files beside it
about.json    {"device", "versions", "seconds", "stopped"}: what it ran on, for how long in all,
              and whether it ended early because a model became non-finite; "history", the SHA-256
              of history.csv, and "checksum", that of all the others
.lock         who works in the folder
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import atomic, locked
from .history import History, Row
from .runs import undisturbed

if TYPE_CHECKING:
    from .cli.setting import Setting
    from .config import RunConfig
    from .simulation import Simulation

SAVE_EVERY = 120.0  # seconds; a killed process loses at most so much ...
SAVE_SHARE = 0.02  # ... or more, where saving would take a larger share of the time
# What may differ between the parts of one run: how far it goes, and where and how it is computed.
FREE = {"rounds", "device", "threads", "backend", "chunk", "memory", "out", "paper"}


@dataclass(frozen=True)
class TableRow:
    """One label of a paper's config under one seed.

    name    of the config file, for people
    config  with this seed; `rounds` as the paper has them
    rounds  how many of these to run now
    """

    name: str
    config: RunConfig
    label: str
    rounds: int
    folder: Path

    @property
    def state(self) -> Path:
        """Where the simulation is saved."""
        return self.folder / "state.pt"

    def history(self) -> History:
        """The rounds done so far. Raises ValueError naming the file where it is damaged."""
        from . import checkpoint

        if checkpoint.exists(self.state):
            return History(checkpoint.history(self.state))
        path, digest = self.folder / "history.csv", self.about().get("history")
        if not path.exists():
            return History()
        found = History.from_csv(path)
        if digest is not None and digest != hashlib.sha256(path.read_bytes()).hexdigest():
            raise ValueError(f"{path}: damaged: its checksum is not the one in about.json")
        return found

    def about(self) -> dict[str, Any]:
        """What it ran on, and for how long. Raises ValueError naming the file likewise."""
        path = self.folder / "about.json"
        if not path.exists():
            return {}
        try:
            kept = json.loads(path.read_bytes().decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON in UTF-8: {error}") from error
        if not isinstance(kept, dict) or kept.pop("checksum", _sum(kept)) != _sum(kept):
            raise ValueError(f"{path}: damaged: its checksum is another; remove it to go on")
        seconds, stopped = kept.get("seconds", 0.0), kept.get("stopped", False)
        if not isinstance(seconds, int | float) or not isinstance(stopped, bool):
            raise ValueError(f"{path}: expected numbers and true or false, found {kept}")
        return kept

    @property
    def done(self) -> bool:
        """Whether as many rounds as wanted are done, or no more can be, and all is written."""
        from . import checkpoint

        many, stopped = len(self.history()), self.about().get("stopped", False)
        if checkpoint.exists(self.state) and (many >= self.config.rounds or stopped):
            return (
                False  # killed just before its state was removed, perhaps not the last thing left
            )
        return many >= self.rounds or stopped


def rows(
    path: Path, config: RunConfig, seeds: Sequence[int], rounds: int | None, out: Path
) -> list[TableRow]:
    """All rows of one config, seed by seed; at most `rounds` of the paper's rounds.

    Raises ValueError where the config names no paper.
    """
    if config.paper is None:
        raise ValueError(f"{path}: expected a config with a section `paper`, found none")
    until = config.rounds if rounds is None else min(rounds, config.rounds)
    made = []
    for seed in seeds or config.paper.seeds:
        seeded = config.model_copy(update={"seed": seed, "paper": None})
        for label in config.algorithms:
            folder = out / path.parent.name / path.stem / label / f"seed-{seed}"
            made.append(TableRow(path.stem, seeded, label, until, folder))
    return made


def train(row: TableRow, setting: Setting) -> Generator[Row, None, None]:
    """Runs what is missing of a claimed row; yields the rows of history as they come."""
    from . import checkpoint
    from .cli.setting import simulation

    sim = simulation(_until(row), setting, row.label)
    began, before = time.monotonic(), row.about().get("seconds", 0.0)
    if checkpoint.exists(row.state):
        # Where an earlier call ended stays evaluated: what a report has listed does not vanish.
        checkpoint.load(sim._components, row.state, all_figures=True)

    def keep() -> None:
        with undisturbed():
            sim.save(row.state)
            _write(row, sim, before + time.monotonic() - began)

    try:
        yield from _saved(sim, keep)
    finally:
        keep()
    if len(sim.history) >= row.config.rounds or sim.stopped:
        checkpoint.remove(row.state)


def _write(row: TableRow, sim: Simulation, seconds: float) -> None:
    """What people read of a saved simulation."""
    text = sim.history.csv()
    about = {**_where(sim), "seconds": round(seconds, 1), "stopped": sim.stopped}
    about["history"] = hashlib.sha256(text.encode()).hexdigest()
    about["checksum"] = _sum(about)
    atomic(row.folder / "history.csv", lambda to: to.write_bytes(text.encode()))
    atomic(row.folder / "about.json", lambda to: to.write_text(json.dumps(about), encoding="utf-8"))


def _sum(about: object) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _until(row: TableRow) -> RunConfig:
    """The configuration that ends with `row.rounds`: "the last rounds" stay those of the paper."""
    last = row.config.eval_last - (row.config.rounds - row.rounds)
    return row.config.model_copy(update={"rounds": row.rounds, "eval_last": max(1, last)})


def _saved(sim: Simulation, keep: Callable[[], None]) -> Iterator[Row]:
    kept, pause = time.monotonic(), SAVE_EVERY
    for done in sim:
        yield done
        began = time.monotonic()
        if began - kept > pause:
            keep()
            kept = time.monotonic()
            pause = max(SAVE_EVERY, (kept - began) / SAVE_SHARE)


@contextmanager
def claimed(row: TableRow) -> Iterator[None]:
    """The row's folder for the block, made or of the same configuration.

    Raises ValueError naming folder and field where it is not, BlockingIOError where another process
    works in it.
    """
    row.folder.mkdir(parents=True, exist_ok=True)
    with locked(row.folder / ".lock", str(row.folder)):
        _claim(row)
        yield


def _claim(row: TableRow) -> None:
    from . import config as configs

    path, labels = row.folder / "config.yaml", {row.label: row.config.algorithms[row.label]}
    config = row.config.model_copy(update={"algorithms": labels, "out": None})
    if not path.exists():
        atomic(path, lambda to: configs.save(config, to))
        return
    old, new = configs.load(path).model_dump(), config.model_dump()
    for field in sorted(set(new) - FREE):
        if old[field] != new[field]:
            raise ValueError(
                f"{row.folder}: holds a run with {field} {old[field]}, not {new[field]}; "
                "give another --out, or remove it"
            )


def _where(sim: Simulation) -> dict[str, object]:
    import torch

    from . import __version__

    gpu = sim.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(sim.device) if gpu else _cpu(sim.threads),
        "versions": f"fedfast {__version__}, torch {torch.__version__}",
    }


def _cpu(threads: int) -> str:
    """The processor's name where the system reports it, and how many threads of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
