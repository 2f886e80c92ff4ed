"""Data sets of other libraries, or fakes where they are not installed, pixel for pixel."""

import subprocess
import sys

import foreign_datasets
import numpy as np
import pytest
import torch
from foreign_datasets import (
    COLOUR,
    GREY,
    LABELS,
    PIXELS,
    Cifar,
    Folder,
    Mnist,
    Rows,
    Svhn,
    pictures,
)
from torch.utils.data import Subset

from fedfast.data import FederatedData, as_samples, dirichlet, from_flower, from_huggingface, iid


def real(name, **arrays):
    """A data set of the installed torchvision, made as its own download would leave it."""
    kinds = pytest.importorskip("torchvision").datasets
    made = object.__new__(getattr(kinds, name))  # no files: only what reading them sets
    made.transforms = made.transform = made.target_transform = None
    vars(made).update(arrays)
    return made


GREY_PIXELS = torch.from_numpy(GREY.copy())[:, None]


def torchvision_folder(tmp_path):
    vision = pytest.importorskip("torchvision")
    for i, image in enumerate(pictures()):
        place = tmp_path / f"class{LABELS[i]}"
        place.mkdir(exist_ok=True)
        image.save(place / f"{i}.png")
    return vision.datasets.ImageFolder(tmp_path)


@pytest.mark.parametrize(
    ("make", "pixels"),
    [
        (Cifar, PIXELS),
        (lambda: real("CIFAR10", data=COLOUR.copy(), targets=list(LABELS)), PIXELS),
        (Mnist, GREY_PIXELS),
        (lambda: real("MNIST", data=GREY_PIXELS[:, 0], targets=torch.tensor(LABELS)), GREY_PIXELS),
        (Svhn, PIXELS),
        (lambda: real("SVHN", data=PIXELS.numpy(), labels=np.array(LABELS)), PIXELS),
        (lambda: Folder(pictures(), LABELS), PIXELS),
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
    assert torch.equal(samples.x, PIXELS[order]) and samples.y.tolist() == sorted(LABELS)


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

    assert torch.equal(as_samples(Counting()).x, PIXELS) and asked == list(range(6))
    assert torch.equal(as_samples(Dark()).x, PIXELS // 2)
    scaled = Cifar(lambda image: torch.from_numpy(np.asarray(image) / np.float32(255)))
    torch.testing.assert_close(as_samples(scaled).x, torch.from_numpy(COLOUR / np.float32(255)))


def test_grey_pictures_among_coloured_ones_become_coloured():
    mixed = pictures()[:3] + pictures("L")[3:]
    samples = as_samples(Folder(mixed, LABELS))
    assert torch.equal(samples.x[:3], PIXELS[:3])
    for i in (3, 4, 5):
        assert all(np.array_equal(plane, GREY[i]) for plane in samples.x[i])
    palette = [image.convert("P") for image in pictures("L")]
    assert as_samples(Folder(palette, LABELS)).x.shape == (6, 3, 4, 5)
    black = [image.convert("1") for image in pictures("L")]
    expected = torch.from_numpy(np.stack([np.asarray(image) * np.uint8(255) for image in black]))
    assert torch.equal(as_samples(Folder(black, LABELS)).x, expected[:, None])


def test_partitions_take_them_as_they_are():
    clients = dirichlet(Cifar(), 2, 1.0, seed=1)
    found = torch.cat([clients.client(i).x for i in range(2)])
    assert sorted(x.sum().item() for x in found) == sorted(x.sum().item() for x in PIXELS)
    assert torch.equal(iid(foreign_datasets.rows(), 1, seed=2).samples.x, PIXELS)


class Triple(Folder):
    def __getitem__(self, i):
        return self.images[i], self.targets[i], i


def mixed_sizes():
    return [*pictures()[:5], pictures()[0].resize((3, 3))]


SHAPES = r"\[5\]\[0\]: expected the shape of item 0, \[3, 4, 5\]; got \[3, 3, 3\]"
DEEP = r"\[0\]\[0\]: expected 8 bits per channel; got a picture of mode I"
TYPES = r"\[1\]\[0\]: expected torch.float32 as item 0; got torch.float64"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda: Triple(pictures(), LABELS), TypeError, r"\[0\]: expected a pair"),
        (lambda: Folder(mixed_sizes(), LABELS), ValueError, SHAPES),
        (lambda: Folder([i.convert("I") for i in pictures("L")], LABELS), ValueError, DEEP),
        (lambda: Folder(pictures(), [0, 1.5]), TypeError, r"\[1\]\[1\]: .* class label; got 1.5"),
        (lambda: Folder(["a"], [0]), TypeError, r"\[0\]\[0\]: expected a tensor or .*; got str"),
        (lambda: Folder([torch.zeros(2), torch.zeros(2).double()], [0, 1]), TypeError, TYPES),
    ],
)
def test_items_that_do_not_fit_are_named(given, error, message):
    with pytest.raises(error, match="train" + message):
        as_samples(given(), "train")


@pytest.fixture(params=["fake", "datasets"])
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
        assert samples.x.dtype == torch.uint8 and torch.equal(samples.x, PIXELS)
        assert samples.y.tolist() == LABELS


def test_huggingface_splits_are_train_and_test(rows):
    part = rows().select([0, 1, 4])
    data = from_huggingface({"train": rows(), "validation": part, "extra": part}, name="cifar")
    assert (data.name, data.classes, len(data.train)) == ("cifar", 3, 6)
    assert torch.equal(data.test.x, PIXELS[[0, 1, 4]]) and data.test.y.tolist() == [0, 1, 1]
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
    ("given", "options", "error", "message"),
    [
        (("img", "label"), {"image": "image"}, ValueError, "image: .* no column 'image'"),
        (
            ("a", "b"),
            {"label": "a"},
            TypeError,
            r"dataset\[0\]\['a'\]: expected an integer class l",
        ),
        (
            ("a", "b", ["c"]),
            {},
            ValueError,
            "label: cannot tell which column of dataset to take; n",
        ),
    ],
)
def test_columns_that_do_not_fit_are_named(rows, given, options, error, message):
    with pytest.raises(error, match=message):
        from_huggingface(rows(*given), **options)


def test_what_is_no_such_data_set_is_named(rows):
    with pytest.raises(ValueError, match="dataset: expected a split 'train'; found"):
        from_huggingface({"test": rows()})
    with pytest.raises(ValueError, match="dataset: expected at least one sample"):
        from_huggingface(rows().select([]))
    message = "dataset: expected a datasets.Dataset that is not streamed.* got list_iterator"
    with pytest.raises(TypeError, match=message):
        from_huggingface(iter([1]))


PARTS = [[0, 3, 1], [5], [4, 2]]


def fake(**splits):
    partitioners = {name: foreign_datasets.Partitioner(parts) for name, parts in splits.items()}
    return foreign_datasets.Federated(dict.fromkeys(splits, foreign_datasets.rows()), partitioners)


def expect(clients, parts):
    assert isinstance(clients, FederatedData) and clients.x.dtype == torch.uint8
    for i, own in enumerate(parts):
        assert torch.equal(clients.client(i).x, PIXELS[own])
        assert clients.client(i).y.tolist() == [LABELS[row] for row in own]


def test_flower_partitions_are_clients():
    expect(from_flower(fake(train=PARTS)), PARTS)
    expect(from_flower(fake(fit=PARTS), "img", "label", split="fit"), PARTS)
    expect(from_flower([foreign_datasets.rows().select(own) for own in PARTS]), PARTS)
    alone = foreign_datasets.Partitioner(PARTS)
    alone.dataset = foreign_datasets.rows()
    expect(from_flower(alone), PARTS)
    tested = from_flower(fake(train=PARTS, test=PARTS[::-1]))
    expect(tested, PARTS)
    for part, own in zip(tested.test, PARTS[::-1], strict=True):
        assert torch.equal(part.x, PIXELS[own])


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (fake(train=PARTS), {"split": "t"}, ValueError, r"split: .*\['train'\]"),
        (fake(train=PARTS), {"label": "kind"}, ValueError, "label: partition 0 has no column 'k"),
        (fake(train=PARTS, test=PARTS[:2]), {}, ValueError, "test: expected .*, 3; got 2"),
        (3, {}, TypeError, "federated: expected a FederatedDataset, .* got int"),
        ([Cifar()], {}, TypeError, "partition 0: expected a datasets.Dataset"),
    ],
)
def test_partitions_that_do_not_fit_are_named(given, options, error, message):
    with pytest.raises(error, match=message):
        from_flower(given, **options)


def test_the_real_flower(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    flower = pytest.importorskip("flwr_datasets")
    parts = ("train", "test")
    for part in parts:
        for i, image in enumerate(pictures()):
            place = tmp_path / "images" / part / f"class{LABELS[i]}"
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{i}.png")
    federated = flower.FederatedDataset(
        dataset="imagefolder",
        data_dir=str(tmp_path / "images"),
        cache_dir=str(tmp_path / "cache"),
        partitioners={p: flower.partitioner.NaturalIdPartitioner("label") for p in parts},
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
