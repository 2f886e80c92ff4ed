"""The run folder: one config's labels, trained one after another, resumable after every stop.

    config.yaml              the resolved configuration; `fedfast run` on it repeats the run
    history.csv              a line per label and round, written as the round ends
    run.json                 per label: seconds, device, whether and how it has ended; checksums
    checkpoint/LABEL.state   where the label goes on (and .state.previous, the one before)
    checkpoint/LABEL.pt      {"round", "model"}: the global model of that state
    summary.md, curves.png   written when `fedfast run` ends, however it ends
    error.txt                the traceback, where an error ended it
    .lock                    while a process works in it

The state is what counts: rows of history.csv that are newer than it are computed again, bit for
bit. Every command that trains works on such folders, by `open_folder` and `train`.
"""

from ..signals import undisturbed
from .changes import FREE
from .folder import RunFolder
from .opening import RunExists, open_folder
from .reading import read, status
from .training import train

__all__ = [
    "FREE",
    "RunExists",
    "RunFolder",
    "open_folder",
    "read",
    "status",
    "train",
    "undisturbed",
]
