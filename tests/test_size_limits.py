"""Sizes that do not fit are refused by name before memory is allocated: < 1 s, < 200 MB."""

import gzip
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from test_image_folder import draw
from torch.utils.data import Dataset

from fedfast import Simulation
from fedfast.data import (
    FederatedData,
    as_samples,
    dirichlet,
    dirichlet_equal,
    hsu,
    iid,
    load,
    pathological,
    read_idx,
    shards,
)
from fedfast.data.size_limits import available_memory

X, Y = torch.randn(40, 3), torch.arange(40) % 4
PARTS = [dirichlet, dirichlet_equal, hsu, iid, pathological, shards]
MORE = {"dirichlet": (1.0,), "dirichlet_equal": (1.0,), "hsu": (1.0,)}
MORE |= {"pathological": (2,), "shards": (2,)}


def idx(shape, kind=8):
    return bytes([0, 0, kind, len(shape)]) + np.array(shape, ">u4").tobytes()


def bomb(header, size):
    """A gzip file of `header` and `size` zeros, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(header)]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def test_a_gzip_that_unpacks_to_more_than_it_says(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(bomb(idx((2, 3, 4)), 400 << 20))
    refused(lambda: read_idx(path, 3), r"x\.gz: expected 24 bytes .*; found at least 65560")
    refused(lambda: read_idx(path, 1), r"x\.gz: expected idx magic number")


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (10**6, 1000, 1000), (1, 1, 2**31)])
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_header_that_claims_more_than_there_is(tmp_path, shape, name):
    content = idx(shape) + bytes(1000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    refused(lambda: read_idx(tmp_path / name, 3), f"{name}: expected [0-9]+ bytes for shape")


def png(width, height):
    """The smallest PNG of that size: one colour, its rows packed without holding them."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_000, 30_000])
def test_images_of_too_many_pixels(tmp_path, side):
    large = png(side, 13_000) if side == 13_000 else png(side, 13_000 * 30_000 // side)
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name)
    (tmp_path / "train/a/0.png").write_bytes(large)
    refused(lambda: load("folder", tmp_path), r"0\.png: expected an image")

    class Pictures(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, i):
            return Image.open(io.BytesIO(large)), 0

    if side == 13_000:  # Pillow itself refuses the other
        with pytest.warns(Image.DecompressionBombWarning):
            refused(lambda: as_samples(Pictures(), "train"), r"train\[0\]\[0\]: expected an image")


def test_images_that_do_not_fit_together(tmp_path, monkeypatch):
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name, size=(6000, 6000), mode="1")
    monkeypatch.setattr("fedfast.data.size_limits.SMALL", 1 << 20)
    monkeypatch.setattr("fedfast.data.size_limits.available_memory", lambda: 8 << 20)
    refused(lambda: load("folder", tmp_path), "a: expected what fits into memory")


@pytest.mark.parametrize("label", [2**24, 2**31, 2**40, 2**62])
@pytest.mark.parametrize("split_by", PARTS)
def test_one_huge_label(label, split_by):
    y = Y.clone()
    y[7] = label
    message = f"^samples.y: expected class labels below 16,777,216; sample 7 has {label}$"
    refused(lambda: split_by((X, y), 4, *MORE.get(split_by.__name__, ())), message)
    refused(lambda: FederatedData.from_arrays([X], [y]), "^client 0.y: expected class labels below")


def test_a_label_that_asks_for_a_huge_table():
    y = Y.clone()
    y[7] = 2**24 - 1
    for split_by in PARTS:
        refused(
            lambda d=split_by: d((X, y), 10, *MORE.get(d.__name__, ())),
            "^samples.y: expected labels f",
        )
    data = FederatedData.from_arrays([X] * 10, [y] * 10)
    refused(data.counts, "^clients: expected labels from 0 without large gaps")


def test_a_view_of_more_than_there_is():
    """One number, 10^13 times: with strides of 0 a copy would take that much."""
    refused(
        lambda: as_samples((torch.zeros(1, 1).expand(40, 10**13), Y)),
        "^samples.x: expected what fits",
    )
    wide = np.broadcast_to(np.zeros((40, 1)), (40, 10**13))
    refused(lambda: as_samples((wide, Y)), "^samples.x: expected what fits into memory")

    class Endless(Dataset):
        def __len__(self):
            return 10**12

        def __getitem__(self, i):
            return torch.zeros(1000), 0

    refused(lambda: as_samples(Endless(), "train"), "^train: expected what fits into memory")


HUGE = {
    "rounds": 10**18,
    "threads": 10**9,
    "batch_size": 10**18,
    "local_epochs": 10**12,
    "chunk": 10**12,
    "eval_every": 10**30,
    "eval_last": 10**5000,
    "seed": 1 << 64,
}


@pytest.mark.parametrize("name", HUGE)
def test_arguments_of_a_run(name):
    data = iid((X, Y), 4)
    model = torch.nn.Linear(3, 4)
    refused(lambda: Simulation(model, data, **{name: HUGE[name]}), f"^{name}: expected")


@pytest.mark.parametrize(
    "name", ["lr", "server_lr", "weight_decay", "clip_norm", "memory", "lr_decay"]
)
def test_numbers_that_no_float_holds(name):
    data = iid((X, Y), 4)
    refused(
        lambda: Simulation(torch.nn.Linear(3, 4), data, **{name: 10**400}), f"^{name}: expected"
    )


def test_epochs_whose_batches_do_not_fit(monkeypatch):
    data = iid((X, Y), 4)
    call = lambda: Simulation(torch.nn.Linear(3, 4), data, local_epochs=10**7, rounds=1)  # noqa: E731
    if 5 * 8 * 10 * 10**7 > 0.9 * available_memory():
        refused(
            call, "^local_epochs: batches of 10,000,000 epochs of 10 samples: expected what fits"
        )


def test_a_small_share_still_draws_one_client():
    sim = Simulation(torch.nn.Linear(3, 4), iid((X, Y), 4), rounds=1, participation=1e-300)
    assert sim.run(progress=False)[-1].clients == 1
