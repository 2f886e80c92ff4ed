"""Rows of a paper's table, run and kept: every (config, label, seed) has a folder of its own.

config.yaml   the resolved configuration of this row and seed
history.csv   one line per round, written with state.pt every two minutes and at the end
state.pt      where to go on; gone once the paper's own number of rounds is done
about.json    {"device", "versions", "seconds", "stopped"}: what it ran on, for how long in all,
              and whether it ended early because a model became non-finite
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .history import History
from .runs import atomic

if TYPE_CHECKING:
    from .cli.setting import Setting
    from .config import RunConfig
    from .simulation import Simulation

SAVE_EVERY = 120.0  # seconds; a killed process loses at most so much ...
SAVE_SHARE = 0.02  # ... or more, where saving would take a larger share of the time
# What may differ between the parts of one run: how far it goes, and where and how it is computed.
FREE = {"rounds", "device", "threads", "backend", "chunk", "memory", "out", "paper"}


@dataclass(frozen=True)
class Row:
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

    def history(self) -> History:
        """The rounds done so far."""
        path = self.folder / "history.csv"
        return History.from_csv(path) if path.exists() else History()

    def about(self) -> dict[str, Any]:
        """What it ran on, and for how long."""
        path = self.folder / "about.json"
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return kept

    @property
    def done(self) -> bool:
        """Whether as many rounds as wanted are done, or no more can be."""
        return len(self.history()) >= self.rounds or self.about().get("stopped", False)


def rows(
    path: Path, config: RunConfig, seeds: Sequence[int], rounds: int | None, out: Path
) -> list[Row]:
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
            made.append(Row(path.stem, seeded, label, until, folder))
    return made


def train(row: Row, setting: Setting) -> Iterator[Any]:
    """Runs what is missing of a claimed row; yields the rows of history as they come."""
    from .cli.setting import simulation

    sim = simulation(_until(row), setting, row.label)
    state, began, before = row.folder / "state.pt", time.monotonic(), row.about()
    if state.exists():
        sim.load(state)

    def keep() -> None:
        sim.save(state)
        atomic(row.folder / "history.csv", sim.history.to_csv)
        spent = before.get("seconds", 0.0) + time.monotonic() - began
        text = json.dumps({**_where(sim), "seconds": round(spent, 1), "stopped": sim.stopped})
        (row.folder / "about.json").write_text(text, encoding="utf-8")

    try:
        yield from _saved(sim, keep)
    finally:
        keep()
    if len(sim.history) >= row.config.rounds or sim.stopped:
        state.unlink()


def _until(row: Row) -> RunConfig:
    """The configuration that ends with `row.rounds`: "the last rounds" stay those of the paper."""
    last = row.config.eval_last - (row.config.rounds - row.rounds)
    return row.config.model_copy(update={"rounds": row.rounds, "eval_last": max(1, last)})


def _saved(sim: Simulation, keep: Any) -> Iterator[Any]:
    kept, pause = time.monotonic(), SAVE_EVERY
    for done in sim:
        yield done
        began = time.monotonic()
        if began - kept > pause:
            keep()
            kept = time.monotonic()
            pause = max(SAVE_EVERY, (kept - began) / SAVE_SHARE)


def claim(row: Row) -> None:
    """Makes the row's folder, or makes sure that the one there is of the same configuration.

    Raises ValueError naming folder and field where it is not.
    """
    from . import config as configs

    row.folder.mkdir(parents=True, exist_ok=True)
    path, labels = row.folder / "config.yaml", {row.label: row.config.algorithms[row.label]}
    config = row.config.model_copy(update={"algorithms": labels, "out": None})
    if not path.exists():
        configs.save(config, path)
        return
    old, new = configs.load(path).model_dump(), config.model_dump()
    for field in sorted(set(new) - FREE):
        if old[field] != new[field]:
            raise ValueError(
                f"{row.folder}: holds a run with {field} {old[field]}, not {new[field]}; "
                "give another --out, or remove it"
            )


def _where(sim: Simulation) -> dict[str, Any]:
    import torch

    from . import __version__

    gpu = sim.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(sim.device) if gpu else _cpu(sim.threads),
        "versions": f"fedfast {__version__}, torch {torch.__version__}",
    }


def _cpu(threads: int) -> str:
    """The processor's name where the system tells it, and how many threads of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
