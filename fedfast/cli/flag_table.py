"""Which flags configs have, kept in a file: the shell's completion has no time to import torch.

    {"run": {FIELD: VALUES}, "data": {NAME: {OPTION: VALUES}}, "algorithms": {...}, ...}

VALUES are those a field can have, [] where any number or text will do.
`python -m fedfast.cli.flag_table` writes the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__

if TYPE_CHECKING:
    from ..config.fields import Leaf

Options = dict[str, list[str]]
Table = dict[str, dict[str, Options]]
NAMED = ("data", "partition", "model")  # sections of one part each; `algorithms` has one per label


def file() -> Path:
    """Where this version's table is kept: the user's cache, as the XDG standard names it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "fedfast" / f"flags-{__version__}.json"


def read() -> Table:
    """The table, {} where there is none yet: a process in the background is writing it then."""
    try:
        made: Table = json.loads(file().read_text(encoding="utf-8"))
        return made
    except (OSError, ValueError):
        with suppress(OSError):
            subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return {}


def write() -> Path:
    """Makes the table anew from the registries; its file."""
    from ..files import atomic

    path, text = file(), json.dumps(table())
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic(path, lambda to: to.write_text(text, encoding="utf-8"))
    return path


def table() -> Table:
    """The flags of every data set, partition, model and algorithm, and those of every run."""
    from ..algorithms import ALGORITHMS
    from ..config import fields
    from ..config.sections import registry

    every = fields.leaves({})
    made: Table = {"run": {"": _options(every, ())}}
    for section in NAMED:
        names = list(registry(fields.NAMED[section]))
        found = {n: fields.leaves({section: {"name": n}}) for n in names}
        made[section] = {n: _options(leaves, (section,)) for n, leaves in found.items()}
        for options in made[section].values():
            options["name"] = names
    found = {n: fields.leaves({"algorithms": {n: {}}}) for n in ALGORITHMS}
    made["algorithms"] = {n: _options(x, ("algorithms", n)) for n, x in found.items()}
    return made


def _options(leaves: list[Leaf], above: tuple[str, ...]) -> Options:
    """The fields below `above`; at the top, those that no choice of a part decides."""
    depth = len(above)
    below = [leaf for leaf in leaves if leaf.loc[:depth] == above]
    chosen = () if above else (*NAMED, "algorithms")
    return {
        ".".join(leaf.loc[depth:]): _values(leaf.metavar)
        for leaf in below
        if leaf.loc[0] not in chosen
    }


def _values(metavar: str) -> list[str]:
    """`{exact,bernoulli}|null` -> exact, bernoulli, null; a BOOL is true or false."""
    words = metavar.replace("BOOL", "{true,false}").split("|")
    if not any(word.startswith("{") for word in words):
        return []
    return [
        v for word in words if word[0] == "{" or word == "null" for v in word.strip("{}").split(",")
    ]


if __name__ == "__main__":
    write()
