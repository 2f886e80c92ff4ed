"""Other forms of the canonical files: pickles, unpacked idx, hidden files."""

import gzip
import pickle
import subprocess
import sys

import numpy as np
import pytest
from data_files import (
    cifar_python,
    emnist_files,
    equal,
    femnist_files,
    idx,
    mnist_files,
    qmnist_files,
    shakespeare_files,
    write,
)

from fedfast.data import load
from fedfast.data.pickles import read_arrays

LABELS = {
    "ints": list,
    "numpy": lambda y: [np.int64(v) for v in y],
    "bytes": lambda y: [np.uint8(v) for v in y],
    "swapped": lambda y: [v for v in np.array(y, ">i4")],
    "array": lambda y: np.array(y),
    "array32": lambda y: np.array(y, np.int32),
    "arrayswapped": lambda y: np.array(y, ">i8"),
    "tuple": tuple,
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", LABELS)
@pytest.mark.parametrize("keys", [str, str.encode], ids=["text", "bytes"])
def test_cifar_pickles_of_every_protocol_and_kind_of_label(
    tmp_path, monkeypatch, protocol, form, keys
):
    rows = cifar_python(tmp_path, monkeypatch, "cifar-100", protocol, LABELS[form], keys)
    data = load("cifar-100", tmp_path)
    assert data.test.y.tolist() == rows["test"][:, 1].tolist()
    assert np.array_equal(data.test.x.flatten(1).numpy(), rows["test"][:, 2:])


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i2", "<i8", ">u4"])
def test_arrays_are_those_of_pickle_itself(tmp_path, protocol, order, writeable, dtype):
    array = np.arange(24).reshape(4, 6).astype(dtype, order=order)
    array.setflags(write=writeable)
    for core in (b"numpy._core", b"numpy.core"):
        raw = pickle.dumps({"data": array, "n": array[0, 1]}, protocol)
        if protocol == 2:  # names are lines of text: those of another NumPy can be written
            raw = raw.replace(b"numpy._core", core)
        write(tmp_path / "p", raw)
        found = read_arrays(tmp_path / "p")
        assert np.array_equal(found["data"], array) and found["data"].dtype == array.dtype
        assert found["n"] == 1 and type(found["n"]) is int


def test_names_of_both_numpys_are_known():
    from fedfast.data.pickles import _NAMES

    for core in ("numpy.core", "numpy._core"):
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer"):
            module, function = f"{core}.{name}".rsplit(".", 1)
            assert (module, function) in _NAMES


EXIT = sys.exit


class Evil:
    def __reduce__(self):
        return subprocess.check_output, (["true"],)


class Load:
    def __reduce__(self):
        return np.load, ("x.npy",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("thing", [Evil(), Load(), {1, 2}, range(3), type, print, EXIT])
def test_programs_are_still_refused(tmp_path, protocol, thing, monkeypatch):
    if thing is EXIT:
        monkeypatch.setattr(sys, "exit", EXIT)  # wandb replaces it where a run has logged to it
    write(tmp_path / "p", pickle.dumps({"data": thing}, protocol))
    if isinstance(thing, set) and protocol >= 4:
        assert read_arrays(tmp_path / "p")["data"] == thing  # a plain container
        return
    with pytest.raises(ValueError, match="p: expected a pickle of arrays; found UnpicklingError"):
        read_arrays(tmp_path / "p")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"fine_labels": [0, 300, 1]}, "'fine_labels' to be bytes; found 300 in row 1"),
        ({"fine_labels": [0, -1, 1]}, "'fine_labels' to be bytes; found -1 in row 1"),
        ({"fine_labels": [0, 1.0, 1]}, "'fine_labels' to be bytes; found 1.0 in row 1"),
        ({"fine_labels": [0, True, 1]}, "'fine_labels' to be bytes; found True in row 1"),
        ({"fine_labels": np.array([0, 1.0, 1])}, "expected an array of integers; found"),
        ({"fine_labels": [np.float64(1)] * 3}, "expected an array of integers; found"),
        ({"fine_labels": np.eye(3, dtype=int)}, "expected 3 'fine_labels'; found ndarray"),
        ({"data": np.zeros((3, 3072), int)}, "expected 'data' of bytes, uint8; found int64"),
        (
            {"data": np.zeros((3, 32, 32, 3), np.uint8)},
            r"'data' of shape \[3, 3072\]; found \[3, 32",
        ),
        ({"data": None}, r"'data' of shape \[3, 3072\]; found NoneType"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_what_is_wrong_in_a_pickle_is_named(tmp_path, monkeypatch, content, message, protocol):
    cifar_python(tmp_path, monkeypatch, "cifar-100", protocol)
    whole = {
        "coarse_labels": [0] * 3,
        "fine_labels": [0] * 3,
        "data": np.zeros((3, 3072), np.uint8),
    }
    write(tmp_path / "cifar-100-python" / "train", pickle.dumps(whole | content, protocol))
    with pytest.raises(ValueError, match=f"train: .*{message}"):
        load("cifar-100", tmp_path)


FORMS = {
    "bare": lambda dashed, dotted: (dashed, False),
    "dotted": lambda dashed, dotted: (dotted, False),
    "kaggle": lambda dashed, dotted: (f"{dashed}/{dashed}", False),
    "nested": lambda dashed, dotted: (f"{dotted}/{dotted}", False),
    "mixed": lambda dashed, dotted: (f"{dashed}/{dotted}", False),
    "dotted.gz": lambda dashed, dotted: (f"{dotted}.gz", None),
}


def unpack(top, form):
    """Every .gz below `top` in that form instead, in another folder where it is a file."""
    for path in sorted(top.rglob("*.gz")):
        dashed = path.name.removesuffix(".gz")
        dotted = dashed.replace("-idx", ".idx")
        name, packed = FORMS[form](dashed, dotted)
        content = path.read_bytes()
        path.unlink()
        write(path.parent / name, content if packed is None else gzip.decompress(content))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "make"),
    [("mnist", mnist_files), ("qmnist", qmnist_files), ("emnist-letters", emnist_files)],
)
def test_unpacked_files_are_read(tmp_path, monkeypatch, form, name, make):
    make(tmp_path, monkeypatch)
    whole = load(name, tmp_path)
    unpack(tmp_path, form)
    found = load(name, tmp_path)
    assert equal(found.train, whole.train) and equal(found.test, whole.test)


def test_unpacked_files_are_checked_too(tmp_path, monkeypatch):
    mnist_files(tmp_path, monkeypatch)
    unpack(tmp_path, "dotted")
    write(tmp_path / "mnist" / "train-images.idx3-ubyte", idx(np.zeros((6, 27, 28))))
    with pytest.raises(ValueError, match="expected images of 28 x 28; found shape .6, 27, 28."):
        load("mnist", tmp_path)
    write(tmp_path / "mnist" / "train-images.idx3-ubyte", idx(np.zeros((5, 28, 28))))
    with pytest.raises(ValueError, match="expected 5 labels as train-images.idx3-ubyte; found 6"):
        load("mnist", tmp_path)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    mnist_files(tmp_path / "sets", monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SETS", str(tmp_path / "sets"))
    assert len(load("mnist", "~/sets").train) == 6
    assert len(load("mnist", type(tmp_path)("~") / "sets").train) == 6
    with pytest.raises(FileNotFoundError):
        load("mnist", "$SETS")  # only a shell replaces variables


@pytest.mark.parametrize(
    ("name", "make"), [("femnist", femnist_files), ("shakespeare", shakespeare_files)]
)
def test_hidden_json_is_skipped(tmp_path, monkeypatch, name, make):
    make(tmp_path, monkeypatch)
    whole = load(name, tmp_path)
    for path in list(tmp_path.rglob("*.json")):
        write(path.with_name(f"._{path.name}"), b"\0\5\26\7Mac OS X")
    found = load(name, tmp_path)
    assert equal(found.train, whole.train) and equal(found.test, whole.test)
