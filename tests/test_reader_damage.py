"""Any byte of any format may be wrong: an error that names the file, or the labels as they were.

With a checksum damage is always an error; elsewhere pixels may differ, but shapes may not,
and labels only where a label itself was written over by another valid one.
"""

import json
import pickle
import tracemalloc

import data_files
import numpy as np
import pytest
import torch
from data_files import FORMATS, cifar_binary, cifar_python, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_reader_forms import unpack

from fedfast.data import cifar, load, mnist
from fedfast.data.pickles import read_arrays

MEMORY = 48 << 20  # bytes; a few times what the small files of all formats take when they are read
MORE = {
    "cifar-100-binary": ("cifar-100", lambda *given: cifar_binary(*given, "cifar-100")),
    "cifar-10-python": ("cifar-10", lambda top, patch: cifar_python(top, patch, "cifar-10", 4)),
    "emnist-bare": ("emnist-letters", lambda top, patch: bare_emnist(top, patch)),
    "folder-jpeg": ("folder", lambda top, patch: pictures(top, "jpg")),
    "folder-bmp": ("folder", lambda top, patch: pictures(top, "bmp")),
    "folder-pgm": ("folder", lambda top, patch: pictures(top, "pgm")),
}  # fmt: skip
EVERY = {name: (name, make) for name, make in FORMATS.items()} | MORE
CHECKED = {"mnist", "qmnist", "cifar-10", "cifar-100"}
# Where labels are written; elsewhere damage cannot reach one.
LABELS = ("labels", ".json", "wnids", "annotations", "train", "test", "batch")


def bare_emnist(top, patch):
    """EMNIST without gzip, whose checksum would detect anything."""
    data_files.emnist_files(top, patch)
    unpack(top, "bare")


def pictures(top, suffix):
    from PIL import Image

    for name in ("train/cat/1", "train/cat/2", "train/dog/9", "val/dog/3"):
        path = top / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data_files.RNG.integers(0, 256, (6, 5), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module", params=EVERY)
def written(request, tmp_path_factory):
    """(name of the data set, folder, its data when nothing is wrong)."""
    top, (name, make) = tmp_path_factory.mktemp("damage"), EVERY[request.param]
    with pytest.MonkeyPatch.context() as patch:
        make(top, patch)
        yield name, top, load(name, top)


@st.composite
def damages(draw, size):
    """(at, how many bytes go, what comes instead): cuts, flips, wrong magic, more, less, others."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "head", "splice"]))
    near = st.integers(0, min(size, 200) - 1)  # headers, and what small files have beside pixels
    at = draw(st.one_of(near, st.integers(0, size - 1), st.integers(max(0, size - 40), size - 1)))
    if kind == "cut":
        return at, size, b""
    if kind == "flip":
        return at, 1, 1 << draw(st.integers(0, 7))
    if kind == "head":
        return 0, 4, draw(st.binary(min_size=4, max_size=4))
    return at, draw(st.integers(0, 9)), draw(st.binary(max_size=9))


def damaged(content, damage):
    at, gone, instead = damage
    if isinstance(instead, int):
        instead = bytes([content[at] ^ instead])
    return content[:at] + instead + content[at + gone :]


def outcome(name, top):
    """The data or the error, and the most memory that was taken meanwhile."""
    tracemalloc.start()
    try:
        return load(name, top), tracemalloc.get_traced_memory()[1]
    except (ValueError, FileNotFoundError) as error:
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compare(found, whole, name, path, top):
    if isinstance(found, Exception):
        assert str(top) in str(found)
        # Lists of files may send a reader to another file, which is then named.
        assert path.name in str(found) or path.suffix == ".txt", found
        return
    for part in ("train", "test"):
        ours, theirs = getattr(found, part), getattr(whole, part)
        assert ours.x.shape[2:] == theirs.x.shape[2:] and ours.x.dtype == theirs.x.dtype
        # Another palette makes a grey picture a coloured one, and its whole folder with it.
        assert ours.x.shape[:2] == theirs.x.shape[:2] or path.suffix == ".bmp"
        assert ours.y.shape == theirs.y.shape
        assert 0 <= int(ours.y.min()) and int(ours.y.max()) < whole.classes
        if name in CHECKED:
            assert torch.equal(ours.x, theirs.x), "nothing was noticed"
        if (
            name in CHECKED
            or not any(word in path.name for word in LABELS)
            or "images" in path.name
        ):
            assert torch.equal(ours.y, theirs.y), "nothing was noticed"
        assert (ours.owner is None) == (theirs.owner is None)


def check(written, path, content, bad):
    """What `load` makes of a file that holds `bad` instead of `content`."""
    name, top, whole = written
    path.write_bytes(bad)
    try:
        found, memory = outcome(name, top)
    finally:
        path.write_bytes(content)
    compare(found, whole, name, path, top)
    assert memory < MEMORY


def files(top):
    return sorted(p for p in top.rglob("*") if p.is_file())


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(data=st.data())
def test_damage_is_named_or_harmless(written, data):
    path = data.draw(st.sampled_from(files(written[1])))
    content = path.read_bytes()
    check(written, path, content, damaged(content, data.draw(damages(len(content)))))


@pytest.mark.parametrize("written", FORMATS, indirect=True)
def test_cuts_and_bits_of_every_file_are_named_or_harmless(written):
    """Of every file: cut short, longer, empty, single bits of its head and elsewhere flipped."""
    rng = np.random.default_rng(1)
    for path in files(written[1]):
        content = path.read_bytes()
        n = len(content)
        for at in (0, 1, 5, n // 2, n - 1):
            check(written, path, content, content[:at])
        check(written, path, content, content + b"\0")
        for at in {*rng.integers(0, n, 12).tolist(), *range(min(24, n))}:
            check(written, path, content, damaged(content, (at, 1, 1 << int(rng.integers(8)))))


def peak(call):
    """The most memory that a call takes, whether it raises ValueError or not."""
    tracemalloc.start()
    try:
        call()
    except ValueError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def test_numbers_in_a_pickle_allocate_nothing(tmp_path):
    """Memo 2^25 of five bytes: half a GiB in C's reader. A byte array that is not there: 1 GiB."""
    memo = b"\x80\x02}r" + (1 << 25).to_bytes(4, "little") + b"."
    array = b"\x80\x05\x96" + (1 << 30).to_bytes(8, "little") + b"ab."
    for raw in (memo, array):
        write(tmp_path / "train", raw)
        assert peak(lambda: read_arrays(tmp_path / "train")) < MEMORY
    with pytest.raises(ValueError, match="train: expected a pickle of arrays"):
        read_arrays(tmp_path / "train")


def test_what_a_pickle_nests_is_not_written_out(tmp_path, monkeypatch):
    """Sixty lists, each twice in the next: as text they would fill every disk."""
    nested = []
    for _ in range(60):
        nested = [nested, nested]
    cifar_python(tmp_path, monkeypatch)
    for content in ({"data": nested}, {"data": np.zeros((3, 3072), np.uint8), "fine_labels": 1}):
        content |= {"coarse_labels": [nested] * 3}
        write(tmp_path / "cifar-100-python" / "train", pickle.dumps(content))
        with pytest.raises(ValueError, match="train: expected .*found .{1,80}$"):
            load("cifar-100", tmp_path)


@pytest.mark.parametrize("shape", [(1,) * 70, (0, 10**30), (0, 2**62, 2**62)])
def test_a_shape_that_no_array_has(tmp_path, shape):
    class Odd:
        def __reduce__(self):
            make, arguments, state = np.zeros(1, np.uint8).__reduce__()
            raw = bytes(int(0 not in shape))
            return make, arguments, (state[0], shape, state[2], False, raw)

    write(tmp_path / "train", pickle.dumps({"data": Odd()}))
    with pytest.raises(ValueError, match="train: expected a shape; found"):
        read_arrays(tmp_path / "train")


def cifar_label(top, patch, name, column, label):
    """A binary file whose second row has another label, its checksum as it should be."""
    rows = cifar_binary(top, patch, name)
    layout = cifar.LAYOUTS[name]
    file = layout.files["test"][0][0]
    rows[file][1, column] = label(int(rows[file][1, column]))
    write(top / layout.binary / f"{file}.bin", rows[file].tobytes())


@pytest.mark.parametrize(
    ("name", "column", "label", "limit"),
    [("cifar-10", 0, 10, 10), ("cifar-100", 0, 20, 20), ("cifar-100", 1, 100, 100)],
)
def test_cifar_labels_out_of_range(tmp_path, monkeypatch, name, column, label, limit):
    cifar_label(tmp_path, monkeypatch, name, column, lambda old: label)
    message = rf"\.bin: expected labels below {limit}; found {label} in row 1$"
    with pytest.raises(ValueError, match=message):
        load(name, tmp_path)
    # In range, but not the canonical one.
    cifar_label(tmp_path, monkeypatch, name, column, lambda old: (old + 1) % limit)
    with pytest.raises(ValueError, match=r"\.bin: expected MD5 [0-9a-f]{32}; found [0-9a-f]{32}"):
        load(name, tmp_path)


def test_mnist_labels_out_of_range(tmp_path, monkeypatch):
    data_files.mnist_files(tmp_path, monkeypatch, labels=((0, 1, 2, 3, 4, 5), (0, 10, 2, 3)))
    message = "t10k-labels-idx1-ubyte.gz: expected labels below 10; found 10 in row 1"
    with pytest.raises(ValueError, match=message):
        load("mnist", tmp_path)


def test_images_where_labels_belong(tmp_path, monkeypatch):
    data_files.mnist_files(tmp_path, monkeypatch)
    images = (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    write(tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz", images)
    message = "labels-idx1-ubyte.gz: expected idx magic number 00 00 08 01; found 00 00 08 03"
    with pytest.raises(ValueError, match=message):
        load("mnist", tmp_path)


@pytest.mark.parametrize("label", [62, -1, 1.0, True, "1", None, [1]])
def test_femnist_labels_out_of_range(tmp_path, monkeypatch, label):
    data_files.femnist_files(tmp_path, monkeypatch)
    path = tmp_path / "femnist" / "test" / "all_0.json"
    found = json.loads(path.read_text())
    found["user_data"]["w1"]["y"][1] = label
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="all_0.json: user 'w1', sample 1: y: expected a class be"):
        load("femnist", tmp_path)


@pytest.mark.parametrize("line", ["val_1.png\tc\t0", "val_1.png", "../val_1.png\ta\t0", ""])
def test_annotations_of_no_class(tmp_path, monkeypatch, line):
    data_files.tiny_files(tmp_path, monkeypatch)
    path = next(tmp_path.rglob("val_annotations.txt"))
    path.write_text(f"val_0.png\ta\t0\n{line}\n")
    with pytest.raises(ValueError, match="val_annotations.txt:2: expected image and class; found"):
        load("tiny-imagenet", tmp_path)


def test_every_canonical_checksum_is_known():
    """MD5 of all files of MNIST, Fashion-MNIST, QMNIST and both CIFARs: 32 hexadecimal digits."""
    sums = [s for _, *known in mnist.IDX.values() for s in known] + list(mnist.QMNIST.values())
    sums += [s for x in cifar.LAYOUTS.values() for part in x.files.values() for _, _, s in part]
    assert len(sums) == len(set(sums)) == 2 * 4 + 2 + 6 + 2
    assert all(len(s) == 32 and int(s, 16) for s in sums)
