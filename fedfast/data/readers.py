"""`load`: the data sets fedfast knows by name. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .. import random
from .._names import unknown
from .idx import read_idx
from .samples import Samples
from .transform import Normalize

# name -> (folders looked in, MD5 of train images, train labels, test images, test labels)
_IDX = {
    "mnist": (
        ("MNIST/raw", "mnist", "."),
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": (
        ("FashionMNIST/raw", "fashion-mnist", "."),
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
NAMES = ("digits", *_IDX)

# As the published federated experiments take them: PA4 divides MNIST by 255, FedFSA centres
# Fashion-MNIST.
NORMALIZE = {"mnist": Normalize(), "fashion-mnist": Normalize((0.5,), (0.5,))}


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: train and test parts, its name, and the number of classes."""

    train: Samples
    test: Samples
    name: str
    classes: int


def load(name: str, root: str | Path = "data") -> Data:
    """A data set by name.

    "digits"                  scikit-learn's bundled 1,797 images, float32 `[n, 1, 8, 8]` / 16;
                              1,437 train and 360 test, a fixed split that keeps the class shares
    "mnist", "fashion-mnist"  bytes `[n, 1, 28, 28]`, 60,000 and 10,000, from the four
                              canonical idx .gz files under `root` (MNIST/raw, mnist or root itself;
                              FashionMNIST/raw, fashion-mnist or root itself), MD5 checked
    Raises ValueError for an unknown name or a damaged file, FileNotFoundError for a missing one.
    """
    if name == "digits":
        return _digits()
    if name in _IDX:
        return _idx(name, Path(root))
    raise unknown("data set", name, NAMES)


def _digits() -> Data:
    # Imported here: scikit-learn takes a second that other data sets need not pay.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(np.asarray(bunch.images, dtype=np.float32)[:, None] / 16)
    y = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    # Every fifth image of each class in turn: a fifth of every class, give or take one.
    shuffled = np.lexsort((random.keys64(0, 0, 0, 0, len(y)), y.numpy()))
    is_test = np.zeros(len(y), dtype=bool)
    is_test[shuffled[::5]] = True
    return Data(Samples(x[~is_test], y[~is_test]), Samples(x[is_test], y[is_test]), "digits", 10)


def _idx(name: str, root: Path) -> Data:
    train_x, train_y, test_x, test_y = _IDX[name][1:]
    train = _part(name, root, "train", train_x, train_y)
    return Data(train, _part(name, root, "t10k", test_x, test_y), name, 10)


def _part(name: str, root: Path, part: str, md5_x: str, md5_y: str) -> Samples:
    x = read_idx(_find(name, root, f"{part}-images-idx3-ubyte.gz"), 3, md5_x)
    y = read_idx(_find(name, root, f"{part}-labels-idx1-ubyte.gz"), 1, md5_y)
    pixels = torch.from_numpy(x.copy())[:, None]
    return Samples(pixels, torch.from_numpy(y.astype(np.int64)), NORMALIZE[name])


def _find(name: str, root: Path, file: str) -> Path:
    places = [root / folder / file for folder in _IDX[name][0]]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"root: data set {name!r} needs {file}; found none of {looked}. "
        "Nothing is downloaded: put the four canonical .gz files in one of these folders"
    )
