"""Rows that `reproduce` kept before 0.2 are given the files of a run folder.

state.pt                     -> checkpoint/LABEL.state
history.csv without a label  -> with one
about.json                   -> run.json
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import checkpoint
from . import about as abouts
from .history_file import write
from .reading import OLD_ABOUT, OLD_STATE, is_old, read, state_of


def migrate(folder: Path, label: str) -> None:
    """Does so under the folder's lock; it may be broken off anywhere and done again.

    Raises ValueError naming the file that is damaged.
    """
    if not is_old(folder):
        return
    history, about = read(folder, label)
    state, old = state_of(folder, label), folder / OLD_STATE
    state.parent.mkdir(exist_ok=True)
    for path, to in ((checkpoint.previous(old), checkpoint.previous(state)), (old, state)):
        if path.exists():
            path.replace(to)
    write(folder, {label: history})
    done = bool(len(history)) and not checkpoint.exists(state)
    found = replace(about, done=done, history=abouts.history_sum(history))
    abouts.write(folder, {label: found})
    (folder / OLD_ABOUT).unlink(missing_ok=True)
