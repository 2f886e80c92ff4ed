"""`load`: data sets by name. Nothing is downloaded."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from .. import random
from .._messages import check_options, format_value
from .._renamed_modules import names_of
from ..registry import accepted
from .dataset import Data
from .own_data import as_data
from .registries import READERS
from .samples import Samples

__getattr__ = names_of(__name__)


def load(name: str, root: str | Path = "data", **options: object) -> Data:
    """A data set by name, from files below `root`; images are bytes that carry their normalization.

    "digits"                  scikit-learn's bundled 1,797 images, float32 `[n, 1, 8, 8]` / 16;
                              1,437 train and 360 test, a fixed split that keeps the class shares
    "mnist", "fashion-mnist"  `[n, 1, 28, 28]`, 60,000 and 10,000, four idx .gz files, MD5 checked;
                              or unpacked ones (also Kaggle's train-images.idx3-ubyte), by any MD5
    "emnist-balanced", "emnist-byclass", "emnist-bymerge", "emnist-digits", "emnist-letters",
    "emnist-mnist"            `[n, 1, 28, 28]`, four idx files
    "qmnist"                  MNIST with the writers of QMNIST as owners, MD5 checked
    "cifar-10", "cifar-100"   `[n, 3, 32, 32]`, binary or python layout, MD5 checked
    "tiny-imagenet"           `[n, 3, 64, 64]`, the folder tiny-imagenet-200; needs Pillow
    "folder"                  images as root/train/<class>/**, root/test/<class>/** (or val), the
                              files that torchvision's ImageFolder reads, but hidden ones; what is
                              skipped is listed in a warning; needs Pillow
    "shakespeare"             LEAF's JSON: 80 characters as tokens, the next one as label, owners
    "femnist"                 LEAF's JSON: float32 `[n, 1, 28, 28]`, writers as owners
    "arrays"                  x.npy, y.npy, owner.npy of one's own in root/train and root/test; x
                              stays in its file, which may be larger than memory: `save_arrays`
    "package.module:reader"   a user's own function, given its options, and `name` and `root` where
                              it takes them; it returns Data, (x, y), a Dataset, (train, test) or
                              {"train": .., "test": .., "classes": ..}
    root begins with ~ where it lies in a home folder.
    Raises ValueError for an unknown name or a damaged file (which it names, with what was expected
    and found), FileNotFoundError for a missing one.
    """
    read = READERS.find(name)
    check_options(name, read, options, own=("name", "root"))
    if not isinstance(root, str | os.PathLike):
        raise TypeError(f"root: expected a path; got {format_value(root)}")
    try:
        place = Path(os.fsdecode(root)).expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise ValueError(f"root: expected a path; got {str(root)!r} ({error})") from error
    own = accepted(read, {"name": name, "root": place})
    return as_data(read(**own, **options), name)


@READERS.register("digits")
def _digits(name: str, root: Path) -> Data:
    table = _digits_table()
    x = torch.from_numpy((table[:, :-1] / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    y = torch.from_numpy(table[:, -1].astype(np.int64))
    # Every fifth image of each class in turn: a fifth of every class, give or take one.
    shuffled = np.lexsort((random.keys64(0, 0, 0, 0, len(y)), y.numpy()))
    is_test = np.zeros(len(y), dtype=bool)
    is_test[shuffled[::5]] = True
    return Data(Samples(x[~is_test], y[~is_test]), Samples(x[is_test], y[is_test]), name, 10)


def _digits_table() -> np.ndarray:
    """[n, 64 pixels from 0 to 16 and a label], as scikit-learn's package has them.

    Of its file, for importing scikit-learn takes two seconds of every process; of `load_digits`
    where the file is elsewhere.
    """
    found = find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
