"""MNIST, Fashion-MNIST, EMNIST and QMNIST: idx files of 28 x 28 bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .dataset import Data, find_any
from .idx import read_idx
from .registries import READERS
from .samples import Samples
from .transform import Normalize

# name -> (folders looked in, MD5 of train images, train labels, test images, test labels)
IDX = {
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
# As the published federated experiments take them: PA4 divides MNIST by 255, FedFSA centres
# Fashion-MNIST.
NORMALIZE = {"mnist": Normalize(), "fashion-mnist": Normalize((0.5,), (0.5,))}

# EMNIST's splits (Cohen et al. 2017): classes, train, test. Its letters are numbered from 1.
EMNIST = {
    "emnist-balanced": (47, 112_800, 18_800),
    "emnist-byclass": (62, 697_932, 116_323),
    "emnist-bymerge": (47, 697_932, 116_323),
    "emnist-digits": (10, 240_000, 40_000),
    "emnist-letters": (26, 124_800, 20_800),
    "emnist-mnist": (10, 60_000, 10_000),
}

# QMNIST (Yadav and Bottou 2019): MD5 of the extended labels; rows are MNIST's, line for line.
QMNIST = {"train": "0058f8dd561b90ffdd0f734c6a30e5e4", "test": "5b5b05890a5e13444e108efe57b788aa"}
QMNIST_FOLDERS = ("QMNIST/raw", "qmnist", "MNIST/raw", "mnist", ".")
CLASS, WRITER = 0, 2  # columns of the extended labels


@READERS.register(*IDX)
def mnist(name: str, root: Path) -> Data:
    """MNIST or Fashion-MNIST from the four canonical .gz files, MD5 checked, or unpacked ones."""
    train_x, train_y, test_x, test_y = IDX[name][1:]
    train = _part(name, root, "train", train_x, train_y)
    return Data(train, _part(name, root, "t10k", test_x, test_y), name, 10)


def _part(name: str, root: Path, part: str, md5_x: str, md5_y: str) -> Samples:
    folders = IDX[name][0]
    images = find_any(name, root, _names(f"{part}-images", "idx3-ubyte"), folders)
    labels = find_any(name, root, _names(f"{part}-labels", "idx1-ubyte"), folders)
    x, y = _read(images, 3, md5_x), _read(labels, 1, md5_y)
    if x.shape[1:] != (28, 28):
        raise ValueError(f"{images}: expected images of 28 x 28; found shape {list(x.shape)}")
    return samples(images, x, labels, y, name, 10)


def _names(stem: str, kind: str) -> tuple[str, ...]:
    """The canonical .gz, then what unpacking and Kaggle make of it: a dot, folders of its name."""
    dashed, dotted = f"{stem}-{kind}", f"{stem}.{kind}"
    spellings = (dashed, dotted, f"{dashed}/{dashed}", f"{dotted}/{dotted}", f"{dashed}/{dotted}")
    return (f"{dashed}.gz", *spellings, f"{dotted}.gz")


def _read(path: Path, ndim: int, md5: str, kind: int = 0x08) -> np.ndarray:
    """An idx file; published checksums are of the .gz files."""
    return read_idx(path, ndim, md5 if path.suffix == ".gz" else None, kind)


def samples(
    images: Path, x: np.ndarray, labels: Path, y: np.ndarray, name: str, classes: int
) -> Samples:
    """Images [n, H, W] and labels [n] of these files as samples [n, 1, H, W], checked."""
    if len(x) != len(y):
        raise ValueError(f"{labels}: expected {len(x)} labels as {images.name}; found {len(y)}")
    if len(y) and int(y.max()) >= classes:
        row = int(np.argmax(y >= classes))
        raise ValueError(f"{labels}: expected labels below {classes}; found {y[row]} in row {row}")
    pixels = torch.from_numpy(x.copy())[:, None]
    normalize = NORMALIZE.get(name, Normalize())
    return Samples(pixels, torch.from_numpy(y.astype(np.int64)), normalize)


@READERS.register(*EMNIST)
def emnist(name: str, root: Path) -> Data:
    """A split of EMNIST from its four idx files, gzipped or not; lengths and labels checked.

    Images are turned upright: the files hold them mirrored along the diagonal.
    """
    classes, *counts = EMNIST[name]
    both = zip(("train", "test"), counts, strict=True)
    train, test = (_emnist_part(name, root, part, count) for part, count in both)
    return Data(train, test, name, classes)


def _emnist_part(name: str, root: Path, part: str, count: int) -> Samples:
    images = _emnist_file(name, root, f"{name}-{part}-images", "idx3-ubyte")
    labels = _emnist_file(name, root, f"{name}-{part}-labels", "idx1-ubyte")
    x, y = read_idx(images, 3), read_idx(labels, 1)
    if x.shape != (count, 28, 28):
        raise ValueError(f"{images}: expected shape {[count, 28, 28]}; found {list(x.shape)}")
    if name == "emnist-letters":
        if len(y) and y.min() < 1:
            raise ValueError(f"{labels}: expected labels from 1; found 0 in row {int(y.argmin())}")
        y = y - 1
    return samples(images, x.transpose(0, 2, 1), labels, y, name, EMNIST[name][0])


def _emnist_file(name: str, root: Path, stem: str, kind: str) -> Path:
    folders = ("EMNIST/raw", "emnist", "gzip", ".")
    packed, *bare = _names(stem, kind)
    found = (root / folder / file for folder in folders for file in bare)
    first = next((path for path in found if path.is_file()), None)
    return first or find_any(name, root, (packed, *bare), folders)


@READERS.register("qmnist")
def qmnist(name: str, root: Path) -> Data:
    """MNIST's images with QMNIST's writers as owners: 539 in train, 297 others in test."""
    images = mnist("mnist", root)
    parts = [_written(name, root, part, getattr(images, part)) for part in ("train", "test")]
    return Data(parts[0], parts[1], name, 10)


def _written(name: str, root: Path, part: str, images: Samples) -> Samples:
    path = find_any(name, root, _names(f"qmnist-{part}-labels", "idx2-int"), QMNIST_FOLDERS)
    table = _read(path, 2, QMNIST[part], kind=0x0C)
    if len(table) < len(images) or table.shape[1] <= WRITER:
        raise ValueError(f"{path}: expected at least [{len(images)}, 3]; found {list(table.shape)}")
    table = table[: len(images)]  # QMNIST's test part goes on where MNIST's ends
    wrong = np.flatnonzero(table[:, CLASS] != images.y.numpy())
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"{path}: expected MNIST's label {int(images.y[row])} in row {row}; "
            f"found {table[row, CLASS]}"
        )
    owner = torch.from_numpy(table[:, WRITER].astype(np.int64))
    return Samples(images.x, images.y, images.normalize, owner)
