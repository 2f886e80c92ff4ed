"""Data sets of other libraries, or stand-ins where they are not installed, pixel for pixel."""

import subprocess
import sys

import foreign_datasets
import numpy as np
import pytest
import torch
from foreign_datasets import COLOUR, GREY, LABELS, Cifar, Folder, Mnist, Rows, Svhn
from torch.utils.data import Subset

from fedfast.data import (
    FederatedData,
    as_samples,
    dirichlet,
    from_flower,
    from_huggingface,
    iid,
)

CHANNELS_FIRST = torch.from_numpy(COLOUR.transpose(0, 3, 1, 2).copy())


def real(make):
    """A data set of the installed torchvision, made as its own download would leave it."""
    vision = pytest.importorskip("torchvision")
    made = object.__new__(make(vision.datasets))  # no files: only what reading them sets
    made.transforms = made.transform = made.target_transform = None
    return made


def torchvision_cifar():
    made = real(lambda kinds: kinds.CIFAR10)
    made.data, made.targets = COLOUR.copy(), list(LABELS)
    return made


def torchvision_mnist():
    made = real(lambda kinds: kinds.MNIST)
    made.data, made.targets = torch.from_numpy(GREY.copy()), torch.tensor(LABELS)
    return made


def torchvision_svhn():
    made = real(lambda kinds: kinds.SVHN)
    made.data, made.labels = COLOUR.transpose(0, 3, 1, 2), np.array(LABELS)
    return made


def torchvision_folder(tmp_path):
    vision = pytest.importorskip("torchvision")
    for i, image in enumerate(foreign_datasets.pictures()):
        place = tmp_path / f"class{LABELS[i]}"
        place.mkdir(exist_ok=True)
        image.save(place / f"{i}.png")
    return vision.datasets.ImageFolder(tmp_path)


@pytest.mark.parametrize(
    ("make", "pixels"),
    [
        (Cifar, CHANNELS_FIRST),
        (torchvision_cifar, CHANNELS_FIRST),
        (Mnist, torch.from_numpy(GREY)[:, None]),
        (torchvision_mnist, torch.from_numpy(GREY)[:, None]),
        (Svhn, CHANNELS_FIRST),
        (torchvision_svhn, CHANNELS_FIRST),
        (lambda: Folder(foreign_datasets.pictures(), LABELS), CHANNELS_FIRST),
    ],
)
def test_torchvision_stays_bytes(make, pixels):
    samples = as_samples(make())
    assert samples.x.dtype == torch.uint8 and torch.equal(samples.x, pixels)
    assert samples.y.dtype == torch.int64 and samples.y.tolist() == LABELS
    nested = as_samples(Subset(Subset(make(), [4, 5, 1, 0]), [3, 1]))
    assert torch.equal(nested.x, pixels[[0, 5]]) and nested.y.tolist() == [0, 2]


def test_a_folder_of_the_real_torchvision(tmp_path):
    samples = as_samples(torchvision_folder(tmp_path))
    order = np.argsort(LABELS, kind="stable")
    assert torch.equal(samples.x, CHANNELS_FIRST[order]) and samples.y.tolist() == sorted(LABELS)


def test_classes_of_others_are_asked_for_every_item_once():
    asked = []

    class Counting(Cifar):
        def __getitem__(self, i):
            asked.append(i)
            return super().__getitem__(i)

    class Dark(Counting):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image.point(lambda v: v // 2), label

    assert torch.equal(as_samples(Counting()).x, CHANNELS_FIRST) and asked == list(range(6))
    assert torch.equal(as_samples(Dark()).x, CHANNELS_FIRST // 2)
    scaled = Cifar(lambda image: torch.from_numpy(np.asarray(image) / np.float32(255)))
    torch.testing.assert_close(as_samples(scaled).x, torch.from_numpy(COLOUR / np.float32(255)))


def test_grey_pictures_among_coloured_ones_become_coloured():
    mixed = foreign_datasets.pictures()[:3] + foreign_datasets.pictures("L")[3:]
    samples = as_samples(Folder(mixed, LABELS))
    assert torch.equal(samples.x[:3], CHANNELS_FIRST[:3])
    for i in (3, 4, 5):
        assert all(np.array_equal(plane, GREY[i]) for plane in samples.x[i])
    palette = [image.convert("P") for image in foreign_datasets.pictures("L")]
    assert as_samples(Folder(palette, LABELS)).x.shape == (6, 3, 4, 5)
    assert torch.equal(
        as_samples(
            Folder([image.convert("1") for image in foreign_datasets.pictures("L")], LABELS)
        ).x,
        torch.from_numpy(
            np.stack([np.asarray(i.convert("1")) * 255 for i in foreign_datasets.pictures("L")])[
                :, None
            ]
        ).to(torch.uint8),
    )


def test_partitions_take_them_as_they_are():
    clients = dirichlet(Cifar(), 2, 1.0, seed=1)
    found = torch.cat([clients.client(i).x for i in range(2)])
    assert sorted(x.sum().item() for x in found) == sorted(x.sum().item() for x in CHANNELS_FIRST)
    assert torch.equal(iid(foreign_datasets.rows(), 1, seed=2).samples.x, CHANNELS_FIRST)


class Triple(Folder):
    def __getitem__(self, i):
        return self.images[i], self.targets[i], i


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (
            lambda: Triple(foreign_datasets.pictures(), LABELS),
            TypeError,
            r"train\[0\]: expected a pair",
        ),
        (
            lambda: Folder(
                [*foreign_datasets.pictures()[:5], foreign_datasets.pictures()[0].resize((3, 3))],
                LABELS,
            ),
            ValueError,
            r"train\[5\]\[0\]: expected the shape of item 0, \[3, 4, 5\]; got \[3, 3, 3\]",
        ),
        (
            lambda: Folder([i.convert("I") for i in foreign_datasets.pictures("L")], LABELS),
            ValueError,
            r"train\[0\]\[0\]: expected 8 bits per channel; got a picture of mode I",
        ),
        (
            lambda: Folder(foreign_datasets.pictures(), [0, 1, 2, 0, 1.5, 2]),
            TypeError,
            r"train\[4\]\[1\]: expected an integer class label; got 1.5",
        ),
        (
            lambda: Folder(["a"] * 6, LABELS),
            TypeError,
            r"train\[0\]\[0\]: expected a tensor or an array; got str",
        ),
        (
            lambda: Folder([torch.zeros(2), torch.zeros(2).double()], [0, 1]),
            TypeError,
            r"train\[1\]\[0\]: expected torch.float32 as item 0; got torch.float64",
        ),
    ],
)
def test_items_that_do_not_fit_are_named(given, error, says):
    with pytest.raises(error, match=says):
        as_samples(given(), "train")


@pytest.fixture(params=["stand-in", "datasets"])
def rows(request):
    """A maker of rows, ours or that of `datasets`."""
    if request.param == "datasets":
        pytest.importorskip("datasets")
        return foreign_datasets.real_rows
    return foreign_datasets.rows


@pytest.mark.parametrize("kind", [None, "numpy"])
def test_huggingface_columns_are_found_or_named(rows, kind):
    plain = rows().with_format(kind)
    named = rows("picture", "kind", ["label"]).with_format(kind)
    for samples in (
        from_huggingface(plain),
        as_samples(plain),
        from_huggingface(named, "picture", "kind"),
        from_huggingface(rows("scan", "fine_label", ["coarse_label"])),
    ):
        assert samples.x.dtype == torch.uint8 and torch.equal(samples.x, CHANNELS_FIRST)
        assert samples.y.tolist() == LABELS


def test_huggingface_splits_are_train_and_test(rows):
    part = rows().select([0, 1, 4])
    data = from_huggingface({"train": rows(), "validation": part, "extra": part}, name="cifar")
    assert (data.name, data.classes, len(data.train)) == ("cifar", 3, 6)
    assert torch.equal(data.test.x, CHANNELS_FIRST[[0, 1, 4]]) and data.test.y.tolist() == [0, 1, 1]
    assert from_huggingface({"train": part}).test is None


ARRAYS = {"x": COLOUR.tolist(), "label": LABELS}


def arrays():
    return Rows(ARRAYS, {"x": foreign_datasets.Array3D(), "label": foreign_datasets.Value()})


def real_arrays():
    hf = pytest.importorskip("datasets")
    features = {"x": hf.Array3D((4, 5, 3), "uint8"), "label": hf.Value("int64")}
    return hf.Dataset.from_dict(ARRAYS, features=hf.Features(features))


@pytest.mark.parametrize("make", [arrays, real_arrays])
def test_arrays_keep_type_and_axes(make):
    samples = from_huggingface(make(), image="x")
    assert samples.x.dtype == torch.uint8
    np.testing.assert_array_equal(samples.x.numpy(), COLOUR)


def test_a_transform_of_rows_is_applied(rows):
    def halve(batch):
        pixels = [torch.from_numpy(np.asarray(image).copy()) // 2 for image in batch["img"]]
        return {"pixels": pixels, "label": batch["label"]}

    samples = from_huggingface(rows().with_transform(halve), image="pixels")
    np.testing.assert_array_equal(samples.x.numpy(), COLOUR // 2)
    assert samples.y.tolist() == LABELS


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda rows: from_huggingface(rows(), "image"), ValueError, "image: .* no column 'image'"),
        (
            lambda rows: from_huggingface(rows("a", "b").select([0]), label="a"),
            TypeError,
            r"dataset\[0\]\['a'\]: expected an integer class label",
        ),
        (
            lambda rows: from_huggingface({"test": rows()}),
            ValueError,
            "dataset: expected a split 'train'; found",
        ),
        (
            lambda rows: from_huggingface(iter([1])),
            TypeError,
            "dataset: expected a datasets.Dataset that is not streamed.* got list_iterator",
        ),
        (
            lambda rows: from_huggingface(rows().select([])),
            ValueError,
            "dataset: expected at least one sample",
        ),
        (
            lambda rows: from_huggingface(rows("a", "b", ["c"])),
            ValueError,
            "label: cannot tell which column of dataset to take; name one of",
        ),
    ],
)
def test_columns_that_do_not_fit_are_named(rows, call, error, says):
    with pytest.raises(error, match=says):
        call(rows)


PARTS = [[0, 3, 1], [5], [4, 2]]


def stand_in(**splits):
    partitioners = {name: foreign_datasets.Partitioner(parts) for name, parts in splits.items()}
    return foreign_datasets.Federated(dict.fromkeys(splits, foreign_datasets.rows()), partitioners)


def expect(clients, parts):
    assert isinstance(clients, FederatedData) and clients.x.dtype == torch.uint8
    for i, own in enumerate(parts):
        assert torch.equal(clients.client(i).x, CHANNELS_FIRST[own])
        assert clients.client(i).y.tolist() == [LABELS[row] for row in own]


def test_flower_partitions_are_clients():
    expect(from_flower(stand_in(train=PARTS)), PARTS)
    expect(from_flower(stand_in(fit=PARTS), "img", "label", split="fit"), PARTS)
    expect(from_flower([foreign_datasets.rows().select(own) for own in PARTS]), PARTS)
    alone = foreign_datasets.Partitioner(PARTS)
    alone.dataset = foreign_datasets.rows()
    expect(from_flower(alone), PARTS)
    tested = from_flower(stand_in(train=PARTS, test=PARTS[::-1]))
    expect(tested, PARTS)
    for part, own in zip(tested.test, PARTS[::-1], strict=True):
        assert torch.equal(part.x, CHANNELS_FIRST[own])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: from_flower(stand_in(train=PARTS), split="t"),
            ValueError,
            r"split: .*\['train'\]",
        ),
        (lambda: from_flower(3), TypeError, "federated: expected a FederatedDataset, .* got int"),
        (lambda: from_flower([Cifar()]), TypeError, "partition 0: expected a datasets.Dataset"),
        (
            lambda: from_flower(stand_in(train=PARTS, test=PARTS[:2])),
            ValueError,
            "test: expected one per client, 3; got 2",
        ),
        (
            lambda: from_flower(stand_in(train=PARTS), label="kind"),
            ValueError,
            "label: partition 0 has no column 'kind'",
        ),
    ],
)
def test_partitions_that_do_not_fit_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_the_real_flower(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    flower = pytest.importorskip("flwr_datasets")
    for part in ("train", "test"):
        for i, image in enumerate(foreign_datasets.pictures()):
            place = tmp_path / "images" / part / f"class{LABELS[i]}"
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{i}.png")
    federated = flower.FederatedDataset(
        dataset="imagefolder",
        data_dir=str(tmp_path / "images"),
        cache_dir=str(tmp_path / "cache"),
        partitioners={
            "train": flower.partitioner.NaturalIdPartitioner("label"),
            "test": flower.partitioner.NaturalIdPartitioner("label"),
        },
    )
    clients = from_flower(federated)
    for i in range(3):
        own = {COLOUR[row].tobytes() for row in range(6) if LABELS[row] == i}
        for found in (clients.client(i), clients.test[i]):
            assert {x.permute(1, 2, 0).numpy().tobytes() for x in found.x} == own
            assert found.y.tolist() == [i, i]
    iid_parts = flower.partitioner.IidPartitioner(num_partitions=3)
    iid_parts.dataset = foreign_datasets.real_rows()
    expect(from_flower(iid_parts), [[0, 1], [2, 3], [4, 5]])


def test_nothing_of_theirs_is_imported():
    names = "{'torchvision', 'datasets', 'flwr_datasets', 'PIL'}"
    code = f"import sys, fedfast.data; print({names} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
