"""Samples in mapped files: runs as from memory, and nothing read before it is trained on."""

import json
import os
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from fedfast.kernels import native
from torch import nn

from fedfast import Simulation
from fedfast.data import Data, Normalize, Samples, as_samples, iid, load, pages, save_arrays
from fedfast.memory import data_bytes

N = 3000
NORMALIZE = Normalize((0.2,), (0.5,))


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (N, 1, 20, 20), dtype=np.uint8))
    y, owner = (torch.from_numpy(rng.integers(0, high, N)) for high in (10, 50))
    return Data(Samples(x, y, NORMALIZE, owner), Samples(x[:90], y[:90], NORMALIZE), "arrays", 10)


@pytest.fixture
def bank(whole, tmp_path):
    save_arrays(whole, tmp_path / "bank")
    return tmp_path / "bank"


def simulation(data, rounds=3, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(data.train.x[0].numel(), 10))
    clients = iid(data.train, 60)
    given = dict(rounds=rounds, participation=0.1, batch_size=8, lr=0.1, test=data.test)
    return Simulation(model, clients, **{**given, **options})


def mapped_bytes(path):
    """Bytes of the file that this process has in memory, and its private copies of them."""
    text = Path("/proc/self/smaps").read_text()
    parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)
    own = [part for part in parts if str(path) in part.split("\n", 1)[0]]
    return [sum(int(re.search(rf"^{k}: +(\d+)", p, re.M)[1]) for p in own) << 10
            for k in ("Rss", "Anonymous")]  # fmt: skip


identity = import_module("fedfast.checkpoint.identity")
linux = pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="Linux tells")


def test_a_saved_data_set_is_read_back_as_it_was(whole, bank):
    for mmap in (True, False):
        found = load("arrays", bank, mmap=mmap)
        for part, expected in ((found.train, whole.train), (found.test, whole.test)):
            assert torch.equal(part.x, expected.x) and torch.equal(part.y, expected.y)
            assert part.normalize == NORMALIZE
        assert torch.equal(found.train.owner, whole.train.owner) and found.test.owner is None
        assert found.classes == 10
        assert (pages.file_of(found.train.x) is not None) == (mmap and os.path.exists("/proc"))


def test_numbers_alone_are_read_by_the_shape_that_is_said(whole, bank):
    (bank / "train" / "x.npy").unlink()
    whole.train.x.numpy().tofile(bank / "train" / "x.bin")
    (bank / "meta.json").write_text(json.dumps({"x": {"dtype": "uint8", "shape": [1, 20, 20]}}))
    found = load("arrays", bank)
    assert torch.equal(found.train.x, whole.train.x) and found.train.normalize == Normalize()


@linux
def test_runs_from_a_file_are_those_from_memory_and_it_stays_a_file(whole, bank):
    file = bank / "train" / "x.npy"
    mapped, held = simulation(load("arrays", bank)), simulation(whole)
    assert mapped._components.pages.file == str(file)
    assert held._components.pages.file is None
    assert data_bytes(held._design.data) - data_bytes(mapped._design.data) == whole.train.x.nbytes
    rows = [[(row.accuracy, row.train_loss) for row in sim] for sim in (mapped, held)]
    assert rows[0] == rows[1]
    assert torch.equal(mapped._engine.state.row, held._engine.state.row)
    assert mapped_bytes(file)[1] == 0  # nothing was copied


@linux
def test_nothing_is_read_before_it_is_trained_on(bank, monkeypatch):
    file = bank / "train" / "x.npy"
    big = np.lib.format.open_memmap(file, "w+", np.uint8, (600, 1, 256, 256))
    np.save(bank / "train" / "y.npy", np.zeros(len(big), dtype=np.int64))
    (bank / "train" / "owner.npy").unlink()
    size = big.nbytes
    del big
    sim = simulation(load("arrays", bank), rounds=2, participation=0.02, test=None)
    before = mapped_bytes(file)[0]
    for _ in sim:
        pass
    after = mapped_bytes(file)[0]
    assert before < 0.1 * size  # rows that the model was tried on
    assert before < after < 0.2 * size  # those of two clients of sixty


@linux
@pytest.mark.skipif(native.module is None, reason="the compiled module is not there")
def test_rows_are_asked_for_ahead(bank):
    file, data = bank / "train" / "x.npy", load("arrays", bank)
    ahead = pages.PagesAhead(data.train.x)
    ahead.ask(torch.tensor([2000, 5, 6, 7, 1000]))
    assert ahead.wait() == 3  # rows 5 to 7 are one range: 400 bytes each, a page of 4096
    assert pages.PagesAhead(data.train.x[:5].clone()).file is None
    assert file.exists()


def test_mapped_arrays_of_numpys_are_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1000, 300), dtype=np.float32))
    np.save(tmp_path / "y.npy", np.zeros(1000, dtype=np.int64))
    x, y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    found = as_samples((x, y))
    if os.path.exists("/proc"):
        assert found.x.data_ptr() == x.ctypes.data
        clients = iid(found, 10)
        assert clients.x.data_ptr() == x.ctypes.data
        with pytest.raises(ValueError, match="x: expected torch.float64, for samples in a mapped"):
            clients.to("cpu", torch.float64)


@linux
def test_large_files_are_told_apart_by_some_of_their_samples(whole, bank, monkeypatch):
    def named():
        return identity.identity(simulation(load("arrays", bank))._design, 0)["data.x"]

    assert named() == identity.identity(simulation(whole)._design, 0)["data.x"]
    monkeypatch.setattr(identity, "READ", 1)
    first = named()
    assert "of some" in first and first == named()
    changed = np.lib.format.open_memmap(bank / "train" / "x.npy", "r+")
    changed[-1, 0, 0, 0] ^= 1
    changed.flush()
    assert named() != first


@linux
def test_a_file_that_is_cut_short_ends_the_run_with_its_name(bank):
    sim = simulation(load("arrays", bank), rounds=9)
    rounds = iter(sim)
    next(rounds)
    path = bank / "train" / "x.npy"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(OSError, match=r"x\.npy: expected the 1,200,128 bytes .* found 600,064"):
        next(rounds)
    assert len(sim.history) == 1


def test_what_was_saved_before_is_not_read_as_part_of_other_data(whole, bank):
    test, owner = bank / "test", bank / "train" / "owner.npy"
    with pytest.raises(ValueError, match=f"folder: expected a new one; {test} is there"):
        save_arrays(whole.train, bank)
    alone = Data(Samples(whole.train.x, whole.train.y), whole.test, "alone", 10)
    with pytest.raises(ValueError, match=f"folder: expected a new one; {owner} is there"):
        save_arrays(alone, bank)
    assert torch.equal(load("arrays", bank).train.owner, whole.train.owner)  # nothing was written
    save_arrays(whole, bank)
    owner.unlink()
    save_arrays(alone, bank)
    assert load("arrays", bank).train.owner is None


@pytest.mark.parametrize(
    "damage, error, message",
    [
        (lambda b: (b / "train" / "y.npy").unlink(), FileNotFoundError, r"y\.npy: expected this"),
        (
            lambda b: (b / "train" / "y.npy").write_bytes(b"no"),
            ValueError,
            r"y\.npy: expected an a",
        ),
        (lambda b: (b / "meta.json").write_text("{"), ValueError, r"meta\.json: expected JSON"),
        (
            lambda b: (b / "meta.json").write_text('{"size": 3}'),
            ValueError,
            "some of classes, mean",
        ),
        (lambda b: (b / "meta.json").write_text('{"classes": 9}'), ValueError, "at least 10"),
        (lambda b: np.save(b / "test" / "y.npy", np.zeros(3)), ValueError, r"test: samples\.y"),
        (lambda b: np.save(b / "train" / "owner.npy", np.zeros(3)), ValueError, "expected 3000"),
        (
            lambda b: (b / "train" / "x.npy").rename(b / "train" / "x.bin"),
            ValueError,
            r"x\.bin: ex",
        ),
        (lambda b: (b / "train" / "x.npy").unlink(), FileNotFoundError, r"x\.npy: expected this"),
    ],
)
def test_damaged_folders_are_named(bank, damage, error, message):
    (bank / "meta.json").write_text("{}")
    damage(bank)
    with pytest.raises(error, match=message):
        load("arrays", bank)
