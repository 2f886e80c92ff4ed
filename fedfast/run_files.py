"""What folders of runs hold: where they are, their rounds, and what they record of themselves."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .history import History, read_runs

if TYPE_CHECKING:
    from .config import RunConfig

ROUNDS = {"history.csv", "state.pt"}


def folders(path: Path) -> Iterator[Path]:
    """The folders of runs in `path` and below, `seed-2` before `seed-10`.

    A folder with nothing but a `config.yaml` is one, too: of a run that has not begun. With
    folders below it is a sweep's.
    """
    for name, below, files in os.walk(path):
        below[:] = sorted((b for b in below if not b.startswith(".")), key=_natural)
        if ROUNDS & set(files) or ("config.yaml" in files and not below):
            yield Path(name)


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def histories(folder: Path, config: RunConfig) -> dict[str, History]:
    """Label -> rounds. Raises ValueError where there are none, or of labels that `config` lacks."""
    from . import checkpoint

    state, path = folder / "state.pt", folder / "history.csv"
    only = next(iter(config.algorithms)) if len(config.algorithms) == 1 else None
    if only and checkpoint.exists(state):  # newer than the files beside it
        return {only: History(checkpoint.history(state))}
    if not path.exists():
        raise ValueError(f"{folder}: no history.csv: the run has not begun")
    found = read_runs(path)
    if only and set(found) == {path.stem}:  # a file without a column of labels
        return {only: found[path.stem]}
    if unknown := [label for label in found if label not in config.algorithms]:
        known = ", ".join(config.algorithms)
        raise ValueError(f"{path}: expected rows of {known}, found {', '.join(unknown)}")
    return found


def about(folder: Path, label: str) -> dict[str, object]:
    """What `run.json` records of a label, or `about.json` of the only one; {} without either.

    Raises ValueError naming the file where it is damaged.
    """
    for name, keys in (("run.json", ("labels", label)), ("about.json", ())):
        if (folder / name).exists():
            return _below(folder / name, keys)
    return {}


def _below(path: Path, keys: tuple[str, ...]) -> dict[str, object]:
    try:
        found: object = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON in UTF-8: {error}") from error
    for key in keys:
        found = found.get(key, {}) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping{' at ' * bool(keys)}{'.'.join(keys)}")
    return found
