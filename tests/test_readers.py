"""Readers on small files of every format: values, layouts, and errors that name the file."""

import os
import pickle

import numpy as np
import pytest
import torch
from data_files import (
    FORMATS,
    LINE,
    cifar_binary,
    cifar_python,
    emnist_files,
    femnist_files,
    folder_files,
    idx,
    leaf_json,
    load_real,
    mnist_files,
    picture,
    qmnist_files,
    shakespeare_files,
    tiny_files,
    write,
)

from fedfast.data import cifar, images, leaf, load


def test_emnist_is_turned_upright_and_counts_letters_from_zero(tmp_path, monkeypatch):
    pixels = emnist_files(tmp_path, monkeypatch)
    data = load("emnist-letters", tmp_path)
    np.testing.assert_array_equal(data.test.x[:, 0].numpy(), pixels.transpose(0, 2, 1))
    assert data.train.y.tolist() == [0, 25, 1, 0, 2] and data.classes == 26
    file = tmp_path / "emnist" / "emnist-letters-test-labels-idx1-ubyte.gz"
    write(file.with_suffix(""), idx(np.array([3, 2, 1])))  # a file that is not gzipped goes before
    assert load("emnist-letters", tmp_path).test.y.tolist() == [2, 1, 0]
    for labels, message in (
        ([0, 1, 2], "labels from 1; found 0 in row 0"),
        ([1, 27, 2], "below 26"),
    ):
        write(file.with_suffix(""), idx(np.array(labels)))
        with pytest.raises(ValueError, match=f"labels-idx1-ubyte: expected {message}|{message}"):
            load("emnist-letters", tmp_path)


def test_qmnist_gives_images_their_writers(tmp_path, monkeypatch):
    qmnist_files(tmp_path, monkeypatch)
    data, plain = load("qmnist", tmp_path), load("mnist", tmp_path)
    assert torch.equal(data.train.x, plain.train.x) and torch.equal(data.test.y, plain.test.y)
    assert data.train.owner.tolist() == [3, 3, 1, 1, 1, 3]
    assert data.test.owner.tolist() == [50, 51, 52, 53]
    mnist_files(tmp_path, monkeypatch, labels=((0, 1, 2, 4, 4, 5), (0, 1, 2, 3)))
    with pytest.raises(ValueError, match="qmnist-train.* MNIST's label 4 in row 3; found 3"):
        load("qmnist", tmp_path)


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
@pytest.mark.parametrize("layout", [cifar_binary, cifar_python])
def test_cifar_in_both_layouts(tmp_path, monkeypatch, name, layout):
    rows = layout(tmp_path, monkeypatch, name)
    data, heads = load(name, tmp_path), len(cifar.LAYOUTS[name].labels)
    train = np.concatenate([t for file, t in rows.items() if "test" not in file])
    test = next(t for file, t in rows.items() if "test" in file)
    for part, table in ((data.train, train), (data.test, test)):
        assert part.y.tolist() == table[:, heads - 1].tolist()
        np.testing.assert_array_equal(part.x.flatten(1).numpy(), table[:, heads:])
        assert part.x.shape[1:] == (3, 32, 32) and part.x.dtype == torch.uint8
        assert len(part.normalize.mean) == 3


def python2(table):
    """The opcodes by which Python 2 and its NumPy wrote {"data": pixels, "fine_labels": ...}."""

    def text(s):
        return b"U" + bytes([len(s)]) + s

    def integer(i):
        return b"J" + int(i).to_bytes(4, "little", signed=True)

    shape = integer(len(table)) + integer(3072) + b"\x86"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + integer(0) + integer(1) + b"\x87R("
    kind += integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    raw = table[:, 2:].tobytes()
    pixels = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85"
    pixels += text(b"b") + b"\x87R(" + integer(1) + shape + kind + b"\x89"
    pixels += b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    lists = [b"](" + b"".join(map(integer, table[:, i])) + b"e" for i in (0, 1)]
    named = text(b"coarse_labels") + lists[0] + text(b"fine_labels") + lists[1]
    return b"\x80\x02}(" + text(b"data") + pixels + named + b"u."


def test_pickles_of_python_2(tmp_path, monkeypatch):
    rows = cifar_python(tmp_path, monkeypatch)
    for file, table in rows.items():
        assert (
            pickle.loads(python2(table), encoding="bytes")[b"data"].tolist()
            == table[:, 2:].tolist()
        )
        write(tmp_path / "cifar-100-python" / file, python2(table))
    data = load("cifar-100", tmp_path)
    assert data.test.y.tolist() == rows["test"][:, 1].tolist()
    np.testing.assert_array_equal(data.train.x.flatten(1).numpy(), rows["train"][:, 2:])


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "content",
    [
        {"data": Evil(os.system, "touch owned")},
        Evil(eval, "open('owned', 'w')"),
        {"data": Evil(getattr, "", "join")},
        {"data": np.zeros(3, dtype=object)},
        {"data": np.zeros((3, 3072), dtype=np.float64)},
        {"data": np.zeros((3, 3071), dtype=np.uint8)},
        {"data": torch.Size([3])},
        [1, 2],
    ],
    ids=["system", "eval", "getattr", "objects", "floats", "shape", "foreign", "list"],
)
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, content):
    cifar_python(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "cifar-100-python" / "train", pickle.dumps(content))
    with pytest.raises(ValueError, match=r"cifar-100-python.train: expected "):
        load("cifar-100", tmp_path)
    assert not (tmp_path / "owned").exists()


def test_tiny_imagenet(tmp_path, monkeypatch):
    shown = tiny_files(tmp_path, monkeypatch)
    data = load("tiny-imagenet", tmp_path)
    assert data.train.y.tolist() == [0, 0, 1, 1] and data.test.y.tolist() == [1, 0]
    found = torch.cat([data.train.x, data.test.x]).numpy()
    np.testing.assert_array_equal(found, np.stack(shown).transpose(0, 3, 1, 2))
    (tmp_path / images.TINY / "train" / "a" / "images" / "a_1.png").unlink()
    with pytest.raises(ValueError, match="a.images: expected 2 images; found 1"):
        load("tiny-imagenet", tmp_path)


def test_a_folder_of_images(tmp_path, monkeypatch):
    shown = folder_files(tmp_path, monkeypatch)
    data = load("folder", tmp_path)
    assert (data.classes, data.train.y.tolist(), data.test.y.tolist()) == (2, [0, 0, 1], [1])
    found = torch.cat([data.train.x, data.test.x]).numpy()
    np.testing.assert_array_equal(found, np.stack(shown)[:, None])
    picture(tmp_path / "train" / "dog" / "small.png", (4, 4), "L")
    with pytest.raises(
        ValueError, match=r"small.png: expected 5 x 4 pixels as .*1.png; found \(4, 4\)"
    ):
        load("folder", tmp_path)


def test_one_coloured_image_makes_a_folder_coloured(tmp_path, monkeypatch):
    shown = folder_files(tmp_path, monkeypatch)
    coloured = picture(tmp_path / "val" / "dog" / "4.png", (5, 4))
    data = load("folder", tmp_path)
    np.testing.assert_array_equal(data.train.x.numpy(), np.stack([shown[:3]] * 3, axis=1))
    np.testing.assert_array_equal(data.test.x[1].numpy(), coloured.transpose(2, 0, 1))


def test_shakespeare(tmp_path, monkeypatch):
    shakespeare_files(tmp_path, monkeypatch)
    data = load("shakespeare", tmp_path)
    assert len(leaf.LETTERS) == len(set(leaf.LETTERS)) == 80
    assert data.train.x.shape == (3, 80) and data.train.x.dtype == torch.int64
    for tokens, text in zip(data.train.x.tolist(), (LINE, LINE[1:] + "W", LINE), strict=True):
        assert "".join(leaf.LETTERS[t] for t in tokens) == text
    assert [leaf.LETTERS[t] for t in data.train.y.tolist()] == ["W", "h", "!"]
    assert data.train.owner.tolist() == [0, 0, 1] and data.test.owner.tolist() == [1, 2]


def test_femnist(tmp_path, monkeypatch):
    femnist_files(tmp_path, monkeypatch)
    data = load("femnist", tmp_path)
    assert data.train.x.shape == (2, 1, 28, 28) and data.train.y.tolist() == [61, 0]
    torch.testing.assert_close(data.train.x[0].flatten(), torch.linspace(0, 1, 784))


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([("A", [(LINE[:79], "a")])], "user 'A', sample 0: x: expected 80 characters"),
        ([("A", [(LINE, "a"), (LINE, "ä")])], "user 'A', sample 1: y: expected a character of"),
        ([("A", [(LINE[:79] + "#", "a")])], "sample 0: x: expected 80 characters of LEAF's"),
        ([], "expected samples in .json files; found none"),
    ],
)
def test_leaf_errors_name_user_and_sample(tmp_path, monkeypatch, users, message):
    shakespeare_files(tmp_path, monkeypatch)
    write(tmp_path / "shakespeare" / "data" / "train" / "a.json", leaf_json(users).encode())
    with pytest.raises(ValueError, match=message):
        load("shakespeare", tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        '{"users": ["A"], "num_samples": [2], "user_data": {"A": {"x": ["a"], "y": ["b"]}}}',
        '{"users": ["A", "B"], "num_samples": [0], "user_data": {"A": {"x": [], "y": []}}}',
        '{"users": ["B"], "num_samples": [0], "user_data": {"A": {"x": [], "y": []}}}',
        '{"users": ["A"], "num_samples": [0], "user_data": {"A": []}}',
        '{"users": {}}',
        "[]",
        "[" * 100_000,
        '{"users": ',
        "\xff",
    ],
)
def test_leaf_files_that_contradict_themselves(tmp_path, monkeypatch, broken):
    shakespeare_files(tmp_path, monkeypatch)
    file = tmp_path / "shakespeare" / "data" / "train" / "a.json"
    write(file, broken.encode("latin-1"))
    with pytest.raises(ValueError, match=r"train.a.json: (user 'A': )?expected "):
        load("shakespeare", tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_missing_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="^root: "):
        load(name, tmp_path)


def test_real_writers():
    data = load_real("qmnist")
    assert (len(data.train.owner.unique()), len(data.test.owner.unique())) == (539, 297)
    assert data.train.x.shape == (60_000, 1, 28, 28) and data.test.x.shape == (10_000, 1, 28, 28)


@pytest.mark.parametrize("name", cifar.LAYOUTS)
def test_real_cifar(name):
    data = load_real(name)
    assert data.train.y.bincount().tolist() == [50_000 // data.classes] * data.classes
    pixels = data.train.x.double() / 255
    assert abs(pixels.mean((0, 2, 3)) - torch.tensor(data.train.normalize.mean)).max() < 5e-4
    assert abs(pixels.std((0, 2, 3)) - torch.tensor(data.train.normalize.std)).max() < 1e-3
