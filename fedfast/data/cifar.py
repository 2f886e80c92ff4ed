"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the binary and the python layout.

Both layouts hold the same rows, so one checksum serves both: that of the binary file's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .dataset import Data, check_md5, find_any
from .pickles import read_arrays, short
from .registries import READERS
from .samples import Samples
from .size_limits import read_whole
from .transform import Normalize

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class ImageLayout:
    """One of the two data sets.

    labels  python keys of the label bytes that begin a row, in the binary order; the last counts
    limits  labels are below
    files   part -> (name in both layouts, number of rows, MD5 of the binary file)
    """

    binary: str
    python: str
    labels: tuple[str, ...]
    limits: tuple[int, ...]
    files: dict[str, tuple[tuple[str, int, str], ...]]
    normalize: Normalize


LAYOUTS = {
    "cifar-10": ImageLayout(
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
        ("labels",),
        (10,),
        {
            "train": (
                ("data_batch_1", 10_000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
                ("data_batch_2", 10_000, "5ea93a67294ea407fff1d09f752e9692"),
                ("data_batch_3", 10_000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
                ("data_batch_4", 10_000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
                ("data_batch_5", 10_000, "53f37980c15c3d472c316c40844f3f0d"),
            ),
            "test": (("test_batch", 10_000, "803d5f7f4d78ea53de84dbe85f74fb6d"),),
        },
        Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2434, 0.2616)),  # FedGloSS
    ),
    "cifar-100": ImageLayout(
        "cifar-100-binary",
        "cifar-100-python",
        ("coarse_labels", "fine_labels"),
        (20, 100),
        {
            "train": (("train", 50_000, "6172c7755cfe09b2fe270c85cebc1b15"),),
            "test": (("test", 10_000, "4499cfba6c016c1be1438163640a0898"),),
        },
        Normalize((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),  # FedGloSS
    ),
}


@READERS.register(*LAYOUTS)
def cifar(name: str, root: Path) -> Data:
    """CIFAR-10 or CIFAR-100 (fine labels), bytes [n, 3, 32, 32], from whichever layout is there."""
    layout = LAYOUTS[name]
    train, test = (_part(name, layout, root, part) for part in ("train", "test"))
    return Data(train, test, name, layout.limits[-1])


def _part(name: str, layout: ImageLayout, root: Path, part: str) -> Samples:
    rows = np.concatenate([_rows(name, layout, root, *file) for file in layout.files[part]])
    heads = len(layout.labels)
    x = torch.from_numpy(rows[:, heads:].copy()).view(-1, 3, 32, 32)
    return Samples(x, torch.from_numpy(rows[:, heads - 1].astype(np.int64)), layout.normalize)


def _rows(
    name: str, layout: ImageLayout, root: Path, file: str, count: int, md5: str
) -> np.ndarray:
    """The rows [count, labels + pixels] of one file, checked."""
    python = root / layout.python / file
    if python.is_file() and not (root / layout.binary / f"{file}.bin").is_file():
        path, rows = python, _python_rows(python, layout, count)
    else:
        path = find_any(name, root, (f"{file}.bin",), (layout.binary, name, "."))
        rows = _binary_rows(path, layout, count)
    for column, limit in enumerate(layout.limits):
        wrong = np.flatnonzero(rows[:, column] >= limit)
        if wrong.size:
            label, row = rows[wrong[0], column], wrong[0]
            raise ValueError(f"{path}: expected labels below {limit}; found {label} in row {row}")
    check_md5(path, rows.tobytes(), md5)
    return rows


def _binary_rows(path: Path, layout: ImageLayout, count: int) -> np.ndarray:
    raw = read_whole(path)
    width = len(layout.labels) + PIXELS
    if len(raw) != count * width:
        raise ValueError(
            f"{path}: expected {count * width} bytes, {count} rows of {width}; found {len(raw)}"
        )
    return np.frombuffer(raw, dtype=np.uint8).reshape(count, width)


def _python_rows(path: Path, layout: ImageLayout, count: int) -> np.ndarray:
    found = read_arrays(path)
    pixels = found.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.shape != (count, PIXELS):
        shape = list(pixels.shape) if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"{path}: expected 'data' of shape {[count, PIXELS]}; found {shape}")
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: expected 'data' of bytes, uint8; found {pixels.dtype}")
    return np.column_stack([*(_column(path, found, key, count) for key in layout.labels), pixels])


def _column(path: Path, found: dict[str, object], key: str, count: int) -> np.ndarray:
    labels = found.get(key)
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = labels.tolist()
    if not isinstance(labels, list) or len(labels) != count:
        what = len(labels) if isinstance(labels, list) else type(labels).__name__
        raise ValueError(f"{path}: expected {count} {key!r}; found {what}")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < 256:
            found_here = f"{short(label)} in row {row}"
            raise ValueError(f"{path}: expected {key!r} to be bytes; found {found_here}")
    return np.array(labels, dtype=np.uint8)
