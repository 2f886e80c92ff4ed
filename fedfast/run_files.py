"""What folders of runs hold: where they are, their rounds, and what they record of themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .history import History, read_runs
from .runs import about as abouts
from .runs import reading
from .runs.about import About

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
    """Label -> every round written. Raises ValueError where there are none, or of other labels."""
    path = folder / "history.csv"
    if reading.is_old(folder) and len(config.algorithms) == 1:
        return {label: reading.read(folder, label)[0] for label in config.algorithms}
    if not path.exists():
        raise ValueError(f"{folder}: no history.csv: the run has not begun")
    found = read_runs(path)
    if len(config.algorithms) == 1 and set(found) == {path.stem}:  # without a column of labels
        return dict(zip(config.algorithms, found.values(), strict=True))
    if unknown := [label for label in found if label not in config.algorithms]:
        known = ", ".join(config.algorithms)
        raise ValueError(f"{path}: expected rows of {known}, found {', '.join(unknown)}")
    return found


def about(folder: Path, label: str) -> About:
    """What is recorded of a label. Raises ValueError naming the file where it is damaged."""
    if reading.is_old(folder):
        return reading.read(folder, label)[1]
    return abouts.read(folder).get(label, About(device=""))
