"""`Data`, what `load` answers, and how its files are looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .samples import Samples


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: train and test parts, its name, and the number of classes."""

    train: Samples
    test: Samples
    name: str
    classes: int

    def pooled(self) -> Samples:
        """Train and test as one, train first: for protocols that split anew client by client."""
        both = self.train.owner, self.test.owner
        owners = [owner for owner in both if owner is not None]
        return Samples(
            torch.cat([self.train.x, self.test.x]),
            torch.cat([self.train.y, self.test.y]),
            self.train.normalize,
            torch.cat(owners) if len(owners) == 2 else None,
        )


def find(name: str, root: Path, file: str, folders: Sequence[str]) -> Path:
    """The first of the `folders` of `root` that holds `file`; FileNotFoundError names them all."""
    places = [root / folder / file for folder in folders]
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"root: data set {name!r} needs {file}; found none of {looked}. "
        "Nothing is downloaded: put the canonical files in one of these folders"
    )


def check_md5(path: Path, content: bytes, expected: str | None) -> None:
    """Raise ValueError unless `content`, of the file `path`, has this MD5 (None: any)."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if expected is not None and found != expected:
        raise ValueError(f"{path}: expected MD5 {expected}; found {found}: not the canonical file")
