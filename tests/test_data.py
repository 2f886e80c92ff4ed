"""Samples, clients' data and readers, against indexing and the published checksums."""

import gzip
import hashlib
import sys

import numpy as np
import pytest
import torch
from data_files import REAL, idx, load_real, mnist_files, packed, write
from torch.utils.data import Dataset, TensorDataset

from fedfast.client_sampling import Schedule
from fedfast.data import (
    Augment,
    FederatedData,
    Normalize,
    Samples,
    as_samples,
    load,
    mnist,
    read_idx,
)

X = torch.arange(24.0).view(6, 2, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Halves(Dataset):
    """A map-style data set of arrays and plain ints."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return X[i].numpy() / 2, int(Y[i])


class Ragged(Halves):
    def __getitem__(self, i):
        return np.zeros((1, 2 + i // 4)), 0


@pytest.mark.parametrize(
    "given",
    [
        (X, Y),
        [X.numpy(), Y.numpy()],
        (X, Y.to(torch.uint8)),
        Samples(X, Y),
        TensorDataset(X, Y),
        (X.numpy()[::-1], Y.numpy()[::-1].astype(np.int16)),
    ],
)
def test_every_form_of_samples_means_the_same(given):
    samples = as_samples(given)
    turned = isinstance(given, tuple) and isinstance(given[0], np.ndarray)
    assert torch.equal(samples.x, X.flip(0) if turned else X)
    assert torch.equal(samples.y, Y.flip(0) if turned else Y)
    assert samples.y.dtype == torch.int64 and len(samples) == 6


def test_datasets_are_stacked_and_readonly_arrays_accepted():
    assert torch.equal(as_samples(Halves()).x, X / 2)
    frozen = X.numpy().copy()
    frozen.flags.writeable = False
    assert torch.equal(as_samples((frozen, Y)).x, X)


def test_floats_and_bytes_are_kept_and_models_see_unit_floats():
    assert as_samples((X.double(), Y)).x.dtype == torch.float64
    pixels = torch.arange(0, 256, 51, dtype=torch.uint8).view(6, 1)
    samples = as_samples((pixels, Y))
    assert samples.x.dtype == torch.uint8 and torch.equal(samples.x, pixels)
    assert samples.inputs().dtype == torch.float32
    torch.testing.assert_close(samples.inputs()[:, 0], torch.linspace(0, 1, 6), rtol=0, atol=1e-7)


def test_tokens_stay_integers():
    tokens = torch.arange(12, dtype=torch.int32).view(6, 2)
    samples = as_samples((tokens, Y))
    assert samples.x.dtype == samples.inputs(torch.float64).dtype == torch.int64
    assert torch.equal(samples.to("cpu", torch.float64).x, tokens.long())


def test_normalization_stays_with_the_samples():
    normalize = Normalize((0.5, 0.25), (0.5, 2.0))
    images = torch.randint(256, (6, 2, 3, 3), dtype=torch.uint8)
    samples = as_samples(Samples(images, Y, normalize))
    data = FederatedData.from_index(samples, [[0, 1, 2], [3, 4, 5]]).with_test([(images, Y)] * 2)
    given = FederatedData.from_arrays([images], [Y], normalize=normalize)
    moved = data.to("cpu", torch.float64)
    for found in (samples, data.client(1), moved.samples, given.samples, data.test[0]):
        assert found.normalize == normalize and found.x.dtype == torch.uint8
    grey = images.double() / 255
    expected = torch.stack([(grey[:, 0] - 0.5) / 0.5, (grey[:, 1] - 0.25) / 2.0], dim=1)
    torch.testing.assert_close(samples.inputs(torch.float64), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("x", "normalize"),
    [(torch.zeros(6, 3, 2, 2).byte(), Normalize((0.5, 0.5), (1, 1))), (X, Normalize())],
)
def test_normalization_must_fit(x, normalize):
    with pytest.raises(ValueError, match=r"samples.x: normalization by . channels needs uint8"):
        as_samples(Samples(x, Y, normalize))
    with pytest.raises(ValueError, match=r"client 0.x: normalization by . channels needs uint8"):
        FederatedData.from_arrays([x], [Y], normalize=normalize)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalize((0.5,), (0.0,)), "std: expected numbers > 0"),
        (lambda: Normalize((0.5,), (1.0, 1.0)), "std: expected 1 numbers as mean; got 2"),
        (lambda: Normalize((float("nan"),), (1.0,)), "mean: expected finite numbers"),
        (lambda: Augment(pad=-1), "pad: expected pixels"),
        (lambda: Augment(crop_chance=1.5), "crop_chance: expected a chance"),
    ],
)
def test_transforms_name_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_former_name_of_samples_warns():
    data = FederatedData.from_arrays([X], [Y])
    with pytest.deprecated_call(match="use .samples"):
        assert torch.equal(data.bank.x, data.samples.x)


def test_finite_values_whose_sum_overflows_are_accepted():
    assert len(as_samples((torch.full((4, 2), 60_000.0).half(), Y[:4]))) == 4
    assert len(as_samples((torch.full((4, 2), 3e38), Y[:4]))) == 4


def broken(value, at=4):
    x = X.clone()
    x[at, 1, 0] = value
    return x


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((broken(float("nan")), Y), ValueError, "train.x: expected finite values; sample 4"),
        ((broken(float("-inf"), 2), Y), ValueError, "train.x: expected finite values; sample 2"),
        ((X, torch.tensor([0, 1, -3, 0, -1, 2])), ValueError, "train.y: .*sample 2 has -3"),
        ((X, Y.float()), TypeError, "train.y: expected integer class labels; got torch.float32"),
        ((X, Y > 0), TypeError, "train.y: expected integer class labels; got torch.bool"),
        ((X, Y[:5]), ValueError, r"train.y: expected shape \[6\].*got \[5\]"),
        ((X, Y[:, None]), ValueError, r"train.y: expected shape \[6\].*got \[6, 1\]"),
        ((X > 0, Y), TypeError, "train.x: expected floats, uint8 images or .* got torch.bool"),
        ((Y.float(), Y), ValueError, r"train.x: expected shape \[n, ...features\]; got \[6\]"),
        ((X[:0], Y[:0]), ValueError, "train: expected at least one sample; got none"),
        (X, TypeError, r"train: expected Samples, a pair \(x, y\).* got Tensor"),
        (([[1.0]], [0]), TypeError, "train.x: expected a tensor or an array; got list"),
        (Ragged(), ValueError, r"train\[4\]\[0\]: expected the shape of item 0, \[1, 2\]; got"),
    ],
)
def test_samples_errors_name_the_argument(given, error, message):
    with pytest.raises(error, match=message):
        as_samples(given, "train")


def parts(*sizes):
    """Clients whose every value tells client and sample: x = 100 i + s."""
    xs = [(100.0 * i + torch.arange(n)).view(n, 1) for i, n in enumerate(sizes)]
    return xs, [torch.arange(n) % 3 for n in sizes]


def test_from_arrays_keeps_each_client():
    xs, ys = parts(4, 0, 1, 6)
    data = FederatedData.from_arrays(xs, ys)
    assert data.num_clients == 4 and data.sizes.tolist() == [4, 0, 1, 6] and data.classes == 3
    for i in range(4):
        assert torch.equal(data.client(i).x, xs[i]) and torch.equal(data.client(i).y, ys[i])


def test_from_arrays_takes_an_empty_clients_float_labels():
    data = FederatedData.from_arrays([X, X[:0]], [Y, torch.tensor([])])
    assert data.sizes.tolist() == [6, 0]


def test_from_index_stores_samples_once():
    indices = [[5, 0], [], np.array([0, 0, 3])]
    data = FederatedData.from_index((X, Y), indices)
    assert data.x.data_ptr() == X.data_ptr()
    for i, rows in enumerate(indices):
        assert torch.equal(data.client(i).x, X[torch.tensor(rows, dtype=torch.int64)])


def test_what_is_printed_is_short():
    data = FederatedData.from_arrays(*parts(4, 0, 6))
    assert repr(data) == "FederatedData(3 clients of 0 to 6 samples of shape [1], 3 classes)"
    assert repr(data.client(0)) == "Samples(x [4, 1] torch.float32, y [4])"


def test_rows_gather_what_the_schedule_asks_for():
    data = FederatedData.from_arrays(*parts(4, 0, 1, 6))
    schedule = Schedule.draw(
        data.sizes, rounds=1, participation=1.0, local_epochs=2, batch_size=3, seed=0
    )
    turn = schedule.round(0)
    index, count = turn.batches([0, 1, 2])
    x = data.x[data.rows(turn.clients, index)][..., 0]  # [K, T, B]
    expected = 100.0 * torch.from_numpy(turn.clients)[:, None, None] + index
    assert torch.equal(x, expected)


def test_counts():
    data = FederatedData.from_index((X, Y), [[0, 3, 1], [], [2, 2, 4]])
    assert data.counts().tolist() == [[2, 1, 0], [0, 0, 0], [0, 1, 2]]


def test_test_parts_stay_with_their_client():
    xs, ys = parts(2, 3)
    data = FederatedData.from_arrays(xs, ys, test=[(xs[1], ys[1] + 4), (xs[0][:0], ys[0][:0])])
    assert torch.equal(data.test[0].x, xs[1]) and len(data.test[1]) == 0
    assert data.classes == 7


def test_to_moves_and_casts_inputs_only():
    xs, ys = parts(2, 3)
    moved = FederatedData.from_arrays(xs, ys, test=[(xs[0], ys[0])] * 2).to("cpu", torch.float64)
    assert moved.x.dtype == moved.test[0].x.dtype == torch.float64
    assert moved.y.dtype == moved.order.dtype == torch.int64
    assert torch.equal(moved.client(1).x, xs[1].double())
    kept = FederatedData.from_arrays(xs, ys).to("cpu")
    assert kept.x.dtype == torch.float32 and kept.test is None


@pytest.mark.parametrize(
    ("xs", "ys", "test", "error", "message"),
    [
        ([X, X[:, :1]], [Y, Y], None, ValueError, r"client 1.x: .*\[n, 2, 2\].* got \[6, 1, 2\]"),
        ([X, X.double()], [Y, Y], None, ValueError, "client 1.x: .*torch.float32.*torch.float64"),
        ([X, X], [Y, Y[:5]], None, ValueError, r"client 1.y: expected shape \[6\]"),
        ([X, X], [Y], None, ValueError, "ys: expected one per client; got 1 for 2 xs"),
        ([], [], None, ValueError, "ys: expected one per client; got 0 for 0"),
        ([X, broken(torch.inf)], [Y, Y], None, ValueError, "client 1.x: .*sample 4"),
        ([X, X], [Y, Y - 1], None, ValueError, "client 1.y: .*sample 0 has -1"),
        ([X[:0]] * 2, [Y[:0]] * 2, None, ValueError, "at least one sample; all 2 clients"),
        ([X], [Y], [], ValueError, "test: expected one per client, 1; got 0"),
        ([X], [Y], [(X[:, :1], Y)], ValueError, r"test\[0\].x: expected shape \[n, 2, 2\]"),
        ([X], [Y], [(broken(torch.nan), Y)], ValueError, r"test\[0\].x: .*sample 4"),
    ],
)
def test_from_arrays_errors_name_the_client(xs, ys, test, error, message):
    with pytest.raises(error, match=message):
        FederatedData.from_arrays(xs, ys, test=test)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([[0], [1, 6]], ValueError, r"indices\[1\]: client 1: expected rows in \[0, 6\); got 1..6"),
        ([[0], [1.5]], TypeError, r"indices\[1\]: expected integers"),
        ([[[0]]], ValueError, r"indices\[0\]: expected shape \[n_i\]"),
        ([], ValueError, "indices: expected at least one client"),
    ],
)
def test_from_index_errors_name_the_client(indices, error, message):
    with pytest.raises(error, match=message):
        FederatedData.from_index((X, Y), indices)


@pytest.mark.parametrize("where", ["file", "package"])
def test_digits_are_read_without_scikit_learn_where_its_file_is(where, monkeypatch):
    expected = load("digits")
    if where == "file":
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # to import it is an error
    else:
        monkeypatch.setattr("fedfast.data.readers.find_spec", lambda name: None)
    found = load("digits")
    for ours, theirs in ((found.train, expected.train), (found.test, expected.test)):
        assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y)


def test_client_out_of_range():
    with pytest.raises(ValueError, match="i: expected 0 <= i < 1; got 1"):
        FederatedData.from_arrays([X], [Y]).client(1)


def test_digits():
    from sklearn.datasets import load_digits

    data, bunch = load("digits"), load_digits()
    assert data.train.x.shape == (1437, 1, 8, 8) and data.test.x.shape == (360, 1, 8, 8)
    assert data.train.x.dtype == torch.float32 and data.classes == 10
    # Together they are scikit-learn's images, each once.
    ours = torch.cat([data.train.x, data.test.x]).flatten(1).numpy() * 16
    labelled = np.column_stack([ours, torch.cat([data.train.y, data.test.y]).numpy()])
    theirs = np.column_stack([bunch.data, bunch.target])
    assert sorted(map(tuple, labelled)) == sorted(map(tuple, theirs))
    shares = np.bincount(data.test.y) / np.bincount(bunch.target)
    assert abs(shares - 0.2).max() < 0.006
    assert torch.equal(load("digits").test.x, data.test.x)
    # The split is part of what results mean: it must not move.
    digest = hashlib.sha256(data.test.x.numpy().tobytes()).hexdigest()
    assert digest[:16] == "e5640d7d28f3c59b"


IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4)


def test_read_idx(tmp_path):
    path = tmp_path / "images.gz"
    np.testing.assert_array_equal(read_idx(path, 3, write(path, packed(IMAGES))), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(IMAGES)[:-9], "expected a whole gzip file; found it cut short"),
        (idx(IMAGES), "expected a gzip file; found damaged data"),
        (packed(IMAGES)[:-8] + bytes(8), "expected a gzip file; found damaged data"),
        (packed(IMAGES[0, 0]), "magic number 00 00 08 03; found 00 00 08 01"),
        (gzip.compress(b""), "magic number 00 00 08 03; found nothing"),
        (gzip.compress(idx(IMAGES)[:-5]), r"expected 24 bytes for shape \[2, 3, 4\]; found 19"),
        (gzip.compress(idx(IMAGES) + b"x"), r"expected 24 bytes .*; found 25"),
        (packed(IMAGES), "expected MD5 00ff; found [0-9a-f]{32}: not the canonical"),
    ],
    ids=["cut", "bare", "damaged", "magic", "empty", "short", "long", "checksum"],
)
def test_read_idx_errors_name_the_file(tmp_path, content, message):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"images.gz: .*{message}"):
        read_idx(path, 3, "00ff")


def test_load_errors(tmp_path):
    with pytest.raises(
        ValueError, match="data set: unknown name 'fashion'; did you mean 'fashion-"
    ):
        load("fashion")
    with pytest.raises(FileNotFoundError, match="'mnist' needs train-images-idx3-ubyte.gz.*MNIST"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "fashion-mnist", "."])
def test_load_reads_idx_files_wherever_they_lie(tmp_path, monkeypatch, folder):
    labels = [0, 1, 2, 0, 1], [0, 1, 2]
    pixels = mnist_files(tmp_path, monkeypatch, labels, "fashion-mnist", folder)[1]
    data = load("fashion-mnist", root=tmp_path)
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("fashion-mnist", 10, 5, 3)
    np.testing.assert_array_equal(data.test.x[:, 0].numpy(), pixels)
    centred = data.test.inputs()[:, 0].numpy()
    np.testing.assert_allclose(centred, (pixels / 255 - 0.5) / 0.5, rtol=0, atol=1e-6)
    assert data.train.x.dtype == torch.uint8 and data.train.y.tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_files(name):
    data = load_real(name)
    assert data.train.x.shape == (60_000, 1, 28, 28) and data.test.x.shape == (10_000, 1, 28, 28)
    assert data.train.x.min() == 0 and data.train.x.max() == 255
    pixels = data.train.x.double() / 255
    # Known means and deviations of the training pixels, as quoted everywhere.
    mean, std = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[name]
    assert abs(pixels.mean() - mean) < 5e-5 and abs(pixels.std() - std) < 5e-5
    assert np.bincount(data.test.y)[:3].tolist() == (
        [980, 1135, 1032] if name == "mnist" else [1000, 1000, 1000]
    )
    other = "mnist" if name == "fashion-mnist" else "fashion-mnist"
    places = [REAL / folder for folder in mnist.IDX[other][0][:2] if (REAL / folder).is_dir()]
    if places:  # the same file names, another data set
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: expected MD5"):
            load(name, root=places[0])
