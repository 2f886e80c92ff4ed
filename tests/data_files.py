"""Small files of every format that `load` reads, for tests; checksums and sizes are patched."""

import gzip
import hashlib
import json
import os
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedfast.data import cifar, images, load, mnist

RNG = np.random.default_rng(0)
REAL = Path(os.environ.get("FEDFAST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def load_real(name):
    """A data set from its canonical files; the test is skipped where they are not there."""
    try:
        return load(name, REAL)
    except FileNotFoundError:
        pytest.skip(f"no {name} files; set FEDFAST_DATA to a folder that holds them")


def equal(ours, theirs):
    """Whether two `Samples` have the same inputs and labels."""
    return torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.md5(content).hexdigest()


def idx(array, kind=8):
    stored = array.astype(np.uint8 if kind == 8 else ">i4").tobytes()
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + stored


def packed(array, kind=8):
    return gzip.compress(idx(array, kind), mtime=0)


def mnist_files(
    top, patch, labels=((0, 1, 2, 3, 4, 5), (0, 1, 2, 3)), name="mnist", folder="mnist"
):
    """Small MNIST: pixels of both parts."""
    pixels, sums = [], []
    for part, y in zip(("train", "t10k"), labels, strict=True):
        pixels.append(RNG.integers(0, 256, (len(y), 28, 28)))
        for kind, array in (("images-idx3", pixels[-1]), ("labels-idx1", np.array(y))):
            sums.append(write(top / folder / f"{part}-{kind}-ubyte.gz", packed(array)))
    patch.setitem(mnist.IDX, name, (mnist.IDX[name][0], *sums))
    return pixels


def qmnist_files(top, patch):
    """Writers 3, 3, 1, 1, 1, 3 to train; the test table goes on where MNIST's test part ends."""
    mnist_files(top, patch)
    train = np.column_stack([np.arange(6) % 10, np.zeros(6), [3, 3, 1, 1, 1, 3], np.arange(6)])
    test = np.column_stack([np.arange(9) % 10, np.zeros(9), np.arange(9) + 50, np.arange(9)])
    for part, table in (("train", train), ("test", test)):
        file = top / "mnist" / f"qmnist-{part}-labels-idx2-int.gz"
        patch.setitem(mnist.QMNIST, part, write(file, packed(table, 0x0C)))


def emnist_files(top, patch):
    patch.setitem(mnist.EMNIST, "emnist-letters", (26, 5, 3))
    for part, y in (("train", np.array([1, 26, 2, 1, 3])), ("test", np.array([1, 2, 26]))):
        pixels = RNG.integers(0, 256, (len(y), 28, 28))
        for kind, array in (("images-idx3", pixels), ("labels-idx1", y)):
            write(top / "emnist" / f"emnist-letters-{part}-{kind}-ubyte.gz", packed(array))
    return pixels


def cifar_rows(name, patch, count=3):
    """Rows of labels and pixels for every file; the table of checksums follows them."""
    layout, rows, files = cifar.LAYOUTS[name], {}, {}
    for part, listed in layout.files.items():
        for file, _, _ in listed:
            labels = [RNG.integers(0, limit, (count, 1)) for limit in layout.limits]
            pixels = RNG.integers(0, 256, (count, 3072))
            rows[file] = np.hstack([*labels, pixels]).astype(np.uint8)
        sums = [hashlib.md5(rows[file].tobytes()).hexdigest() for file, _, _ in listed]
        files[part] = tuple((f, count, s) for (f, _, _), s in zip(listed, sums, strict=True))
    patch.setitem(cifar.LAYOUTS, name, replace(layout, files=files))
    return rows


def cifar_binary(top, patch, name="cifar-10"):
    rows = cifar_rows(name, patch)
    for file, table in rows.items():
        write(top / cifar.LAYOUTS[name].binary / f"{file}.bin", table.tobytes())
    return rows


def cifar_python(top, patch, name="cifar-100", protocol=2, form=list, keys=str):
    """form: what the labels are written as, of a list of integers; keys: str or bytes."""
    rows, layout = cifar_rows(name, patch), cifar.LAYOUTS[name]
    for file, table in rows.items():
        heads = len(layout.labels)
        content = {keys(key): form(table[:, i].tolist()) for i, key in enumerate(layout.labels)}
        content |= {keys("data"): table[:, heads:].copy(), "filenames": ["a.png"] * len(table)}
        write(top / layout.python / file, pickle.dumps(OrderedDict(content), protocol))
    return rows


def picture(path, size=(64, 64), mode="RGB"):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def tiny_files(top, patch):
    """Two classes of two images; what is stored losslessly may be called JPEG all the same."""
    patch.setattr(images, "TINY_SIZES", (2, 2, 2))
    place = top / images.TINY
    shown = [picture(place / "train" / c / "images" / f"{c}_{i}.png") for c in "ba" for i in (0, 1)]
    shown += [picture(place / "val" / "images" / f"val_{i}.png") for i in (0, 1)]
    write(place / "wnids.txt", b"b\na\n")
    write(
        place / "val" / "val_annotations.txt",
        b"val_0.png\ta\t0\t0\t9\t9\nval_1.png\tb\t0\t0\t9\t9\n",
    )
    return shown


def folder_files(top, patch):
    names = ("train/cat/1.png", "train/cat/2.png", "train/dog/9.png", "val/dog/3.png")
    return [picture(top / name, (5, 4), "L") for name in names]


def leaf_json(users):
    data = {user: {"x": [x for x, _ in pairs], "y": [y for _, y in pairs]} for user, pairs in users}
    counts = [len(pairs) for _, pairs in users]
    return json.dumps({"users": [u for u, _ in users], "num_samples": counts, "user_data": data})


LINE = "to be, or not to be: that is the question." + " " * 38


def shakespeare_files(top, patch):
    train = [("HAMLET", [(LINE, "W"), (LINE[1:] + "W", "h")]), ("OPHELIA", [(LINE, "!")])]
    write(top / "shakespeare" / "data" / "train" / "a.json", leaf_json(train).encode())
    test = [("OPHELIA", [(LINE, "?")]), ("GHOST", [(LINE, "\n")])]
    write(top / "shakespeare" / "data" / "test" / "a.json", leaf_json(test).encode())


def femnist_files(top, patch):
    drawing = np.linspace(0, 1, 784).tolist()
    for part in ("train", "test"):
        text = leaf_json([("w1", [(drawing, 61), (drawing[::-1], 0)])])
        write(top / "femnist" / part / "all_0.json", text.encode())


FORMATS = {
    "mnist": mnist_files,
    "qmnist": qmnist_files,
    "cifar-10": cifar_binary,
    "cifar-100": cifar_python,
    "emnist-letters": emnist_files,
    "tiny-imagenet": tiny_files,
    "folder": folder_files,
    "shakespeare": shakespeare_files,
    "femnist": femnist_files,
}
