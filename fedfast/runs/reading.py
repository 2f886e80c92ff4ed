"""What a run folder holds, read without changing it; also folders of older versions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from .. import checkpoint
from ..files import PARTIAL
from ..history import History, read_runs
from . import about as abouts
from .about import About

OLD_STATE, OLD_ABOUT = "state.pt", "about.json"  # of rows that `reproduce` kept before 0.2


def state_of(folder: Path, label: str) -> Path:
    """Where the label's simulation is saved."""
    return folder / "checkpoint" / f"{label}.state"


def read(folder: Path, label: str) -> tuple[History, About]:
    """The rounds of a label that it would go on from, and what is known of it.

    Raises ValueError naming the file that is damaged.
    """
    about = _about(folder, label)
    for path in (state_of(folder, label), folder / OLD_STATE):
        if checkpoint.exists(path):
            return History(checkpoint.history(path)), about
    if is_old(folder):
        return _old_history(folder), about
    if (folder / abouts.NAME).exists() and not about.done:
        return History(), about  # killed before anything was saved
    history = _written(folder).get(label, History())
    if about.history and about.history != abouts.history_sum(history):
        path = folder / "history.csv"
        raise ValueError(f"{path}: damaged: its checksum is not the one in {abouts.NAME}")
    return history, about


def is_old(folder: Path) -> bool:
    """Whether `reproduce` kept the row before 0.2, and nothing has gone on with it since."""
    return any((folder / name).exists() for name in (OLD_STATE, OLD_ABOUT))


def holds_run(folder: Path) -> bool:
    """Whether there is a run in the folder: its config, and a file that only runs have."""
    marks = (abouts.NAME, "history.csv", OLD_STATE, OLD_ABOUT)
    return (folder / "config.yaml").is_file() and any((folder / name).exists() for name in marks)


def is_begun(folder: Path) -> bool:
    """Whether any round of a run has been kept or written."""
    states = [*folder.glob("checkpoint/*.state*"), *folder.glob(f"{OLD_STATE}*")]
    try:
        return bool(states) or any(map(len, _written(folder).values()))
    except ValueError:  # damaged: something was there
        return True


def foreign(folder: Path) -> list[str]:
    """Names of files in a folder without a run that keep one from being begun there."""
    # What a run leaves that is killed while its folder is made, or a sweep of one that was.
    names = {".lock", abouts.NAME, "error.txt", "output.txt"}
    return sorted(p.name for p in folder.iterdir() if p.name not in names and PARTIAL not in p.name)


def status(folder: Path, labels: Iterable[str], rounds: int) -> str:
    """`fedavg 3 of 3 rounds, sharp 1 of 3 rounds`. Raises ValueError naming a damaged file."""
    found = []
    for label in labels:
        history, about = read(folder, label)
        ended = " (diverged)" if about.stopped else f" ({about.ended})" if about.ended else ""
        found.append(f"{label} {len(history)} of {rounds} rounds{ended}")
    return ", ".join(found)


def _written(folder: Path) -> dict[str, History]:
    path = folder / "history.csv"
    return read_runs(path) if path.exists() else {}


def _about(folder: Path, label: str) -> About:
    path = folder / OLD_ABOUT
    if not path.exists():
        return abouts.read(folder).get(label, About())
    try:
        kept = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON in UTF-8: {error}") from error
    given = kept.pop("checksum", None) if isinstance(kept, dict) else "none"
    if given not in (None, sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()):
        raise ValueError(f"{path}: damaged: its checksum is another; remove it to go on")
    return abouts.of(kept, path)


def _old_history(folder: Path) -> History:
    """The rows of a folder of one row, which knew their digest; it may have been migrated since."""
    path = folder / "history.csv"
    if not path.exists():
        return History()
    history, about = History.from_csv(path), _about(folder, "")
    digests = (sha256(text).hexdigest() for text in (path.read_bytes(), history.csv().encode()))
    if about.history and about.history not in digests:
        raise ValueError(f"{path}: damaged: its checksum is not the one in {OLD_ABOUT}")
    return history
