"""Finished and unfinished runs on disk, read for comparisons: one `RunRecord` per label and seed.

A run folder holds `config.yaml` and `history.csv`, perhaps `run.json`; see `fedfast.runs`. Rows of
`fedfast reproduce` written by older versions hold `about.json`, and `state.pt` while they are
unfinished. Both are found at any depth below the folders that are given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from . import run_files
from ._messages import path_of, warn_user
from .history import History
from .precisions import meaning
from .run_names import display_names
from .runs import changes

if TYPE_CHECKING:
    from .config import RunConfig

# What a run may change on its way is no part of what is compared, but for what shows in rounds.
FREE = changes.FREE - {"rounds", "eval_every", "eval_last", "empty_clients", "metric", "callbacks"}
SECTIONS = ("data", "partition", "model")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One label of a run folder, which has one seed.

    seconds  that it took, in all
    device   what it ran on, "" where that is not recorded
    status   "done"; "stopped", for good before its last round (a model diverged, a callback ended
             it); or "unfinished"
    reason   that a callback gave
    """

    folder: Path
    label: str
    config: RunConfig
    history: History
    seconds: float
    device: str
    status: str
    reason: str = ""

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config.seed)

    @cached_property
    def options(self) -> dict[str, object]:
        """Every option but the seed that results depend on, those of its own algorithm first.

        Options of sections have dotted names, `algorithm.rho` and `partition.alpha`, without the
        label: runs of several labels can be compared.
        """
        fields = self.config.model_dump(exclude={*FREE, "seed", "algorithms"})
        sections = {name: fields.pop(name) for name in SECTIONS}
        sections["data"].pop("root")
        own = self.config.algorithms[self.label].model_dump()
        fields["precision"] = meaning(fields["precision"])
        return dict(_flat({"algorithm": own, **sections})) | fields


def records(paths: Sequence[str | Path]) -> list[RunRecord]:
    """The runs in these folders and below them, in the order of their paths.

    Folders that cannot be read, labels without a round and repetitions of a run are left out, with
    a warning each. Raises ValueError naming the path below which there is no run, and what is
    wrong with what is there.
    """
    found: list[RunRecord] = []
    for path in [path_of("paths", path) for path in paths]:
        below, troubles = _below(path)
        if not below:
            nothing = f"{path}: expected a folder of runs (config.yaml and history.csv), found none"
            raise ValueError("\n".join(troubles) or nothing)
        found += below
        for trouble in troubles:
            warn_user(f"{trouble}; left out")
    return _without_repetitions(found)


def groups(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Display name -> the runs that differ in nothing but their seeds, in the order of `records`.

    The name is the label, and with it the options that runs of one label differ in.
    """
    same: dict[str, list[RunRecord]] = {}
    for record in records:
        same.setdefault(_identity(record), []).append(record)
    first = [runs[0] for runs in same.values()]
    names = display_names([(run.label, run.options) for run in first])
    return dict(zip(names, same.values(), strict=True))


def _flat(options: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _identity(record: RunRecord) -> str:
    return json.dumps([record.label, record.options], sort_keys=True, default=repr)


def _below(path: Path) -> tuple[list[RunRecord], list[str]]:
    """The runs in a folder and below it, and what is wrong with others."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        return [], [f"{path}: expected a folder of runs, found {found}"]
    runs: list[RunRecord] = []
    troubles: list[str] = []
    for folder in run_files.folders(path):
        try:
            runs += _read(folder, troubles)
        except (ValueError, TypeError, OSError) as error:
            text = " ".join(str(error).split())
            troubles.append(text if str(folder) in text else f"{folder}: {text}")
    return runs, troubles


def _read(folder: Path, troubles: list[str]) -> list[RunRecord]:
    """The labels of one folder that have rounds."""
    from . import config as configs

    try:
        config = configs.load(folder / "config.yaml")
    except configs.ConfigError:  # a callback's module is gone, or something that matters more
        config = configs.load_kept(folder / "config.yaml")
    made = [
        _record(folder, label, config, history)
        for label, history in run_files.histories(folder, config).items()
        if len(history)
    ]
    begun = {record.label for record in made}
    left = [label for label in config.algorithms if label not in begun]
    troubles += [f"{folder}: {label}: no round yet" for label in left]
    return made


def _record(folder: Path, label: str, config: RunConfig, history: History) -> RunRecord:
    about = run_files.about(folder, label)
    # A killed process may have written rounds after it recorded anything.
    written = math.fsum(row.seconds for row in history if math.isfinite(row.seconds))
    seconds = max(about.seconds, written)
    status = _status(config, history, about.stopped or bool(about.ended))
    return RunRecord(folder, label, config, history, seconds, about.device, status, about.ended)


def _status(config: RunConfig, history: History, stopped: bool) -> str:
    last = history.last()
    if last.round >= config.rounds:
        return "done"
    diverged = last.status != "ok" and config.on_divergence == "stop"
    return "stopped" if stopped or diverged else "unfinished"


def _without_repetitions(found: Sequence[RunRecord]) -> list[RunRecord]:
    """Of runs with the same label, options and seed the longest: they are one sample, not two."""
    kept: dict[tuple[str, int], RunRecord] = {}
    for record in found:
        key = _identity(record), record.seed
        other = kept.get(key, record)
        longer = len(record.history) > len(other.history)
        kept[key] = record if longer else other
        if record.folder.resolve() != other.folder.resolve():
            left = other if longer else record
            text = f"{left.folder}: {left.label}: repeats {kept[key].folder}, seed {left.seed}"
            warn_user(f"{text}; left out")
    return list(kept.values())
