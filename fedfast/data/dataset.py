"""`Data`, what `load` answers, and how its files are looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .samples import Samples


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: train part, test part (None where there is none), name, number of classes."""

    train: Samples
    test: Samples | None
    name: str
    classes: int

    def pooled(self) -> Samples:
        """Train and test as one, train first: for protocols that split anew client by client."""
        if self.test is None:
            return self.train
        both = self.train.owner, self.test.owner
        owners = [owner for owner in both if owner is not None]
        return Samples(
            torch.cat([self.train.x, self.test.x]),
            torch.cat([self.train.y, self.test.y]),
            self.train.normalize,
            torch.cat(owners) if len(owners) == 2 else None,
        )

    def hold_out(self, count: int) -> Data:
        """The last `count` training samples as the test part; the given one goes unused.

        Source: PA4, 48,000 and 12,000 of MNIST's 60,000. Raises ValueError unless both parts get
        samples.
        """
        total = len(self.train)
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise TypeError(f"holdout: expected an integer; got {count!r}")
        if not 1 <= count < total:
            raise ValueError(f"holdout: expected 1 <= holdout < {total} samples; got {count}")
        cut = total - count
        return replace(
            self, train=self.train.take(slice(cut)), test=self.train.take(slice(cut, None))
        )


def find_any(name: str, root: Path, files: Sequence[str], folders: Sequence[str]) -> Path:
    """The first of the `files`, names of the same content, in the first of the `folders` with one.

    Raises FileNotFoundError that names the folders, and the first of the files.
    """
    places = [root / folder / file for folder in folders for file in files]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(root / folder) for folder in folders)
    spelt = " (or under its other names)" if len(files) > 1 else ""
    raise FileNotFoundError(
        f"root: data set {name!r} needs {files[0]}{spelt}; it is in none of {looked}. Nothing is "
        "downloaded: put the canonical files in one of these folders, or name the folder that "
        "holds yours by root, --data.root DIR"
    )


def check_md5(path: Path, content: bytes, expected: str | None) -> None:
    """Raise ValueError unless `content`, of the file `path`, has this MD5 (None: any)."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if expected is not None and found != expected:
        raise ValueError(f"{path}: expected MD5 {expected}; found {found}: not the canonical file")
