"""Fakes with the interfaces of torchvision, `datasets` and `flwr-datasets`, for tests."""

import numpy as np
import torch
from PIL import Image as Pillow

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)  # [n, H, W, C], as CIFAR's
GREY = RNG.integers(0, 256, (6, 4, 5), dtype=np.uint8)
PIXELS = torch.from_numpy(COLOUR.transpose(0, 3, 1, 2).copy())  # as `as_samples` returns them
LABELS = [0, 1, 2, 0, 1, 2]


class Cifar:
    """torchvision.datasets.CIFAR10 once it is read."""

    def __init__(self, transform=None):
        self.data, self.targets = COLOUR.copy(), list(LABELS)
        self.transform, self.target_transform, self.transforms = transform, None, transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        image = Pillow.fromarray(self.data[i])
        return (self.transform(image) if self.transform else image), self.targets[i]


class Mnist(Cifar):
    """torchvision.datasets.MNIST: tensors."""

    def __init__(self, transform=None):
        super().__init__(transform)
        self.data, self.targets = torch.from_numpy(GREY.copy()), torch.tensor(LABELS)

    def __getitem__(self, i):
        image = Pillow.fromarray(self.data[i].numpy())
        return (self.transform(image) if self.transform else image), int(self.targets[i])


class Svhn(Cifar):
    """torchvision.datasets.SVHN: labels, channels first."""

    def __init__(self):
        super().__init__()
        self.data, self.labels = COLOUR.transpose(0, 3, 1, 2), np.array(LABELS)
        del self.targets

    def __getitem__(self, i):
        return Pillow.fromarray(self.data[i].transpose(1, 2, 0)), int(self.labels[i])


class Folder:
    """torchvision.datasets.ImageFolder: targets, but no data."""

    def __init__(self, images, targets):
        self.images, self.targets, self.transform = images, targets, None

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return self.images[i], self.targets[i]


class Image:
    """The feature of that name in `datasets`."""


class ClassLabel:
    """The feature of that name in `datasets`."""


class Value:
    """The feature of that name in `datasets`."""

    dtype = "int64"


class Array3D:
    """The feature of that name in `datasets`: its rows come as nested lists."""

    dtype = "uint8"


class Rows:
    """datasets.Dataset: columns of equal length, with features; slices give lists."""

    def __init__(self, columns, features, kind=None):
        self.columns, self.features, self.format = columns, features, {"type": kind}

    @property
    def column_names(self):
        return list(self.columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows):
        assert isinstance(rows, slice), "read in batches"
        found = {key: list(values)[rows] for key, values in self.columns.items()}
        if self.format["type"] == "custom":
            return self.transform(found)
        if self.format["type"] == "numpy":  # as `datasets`: pictures become arrays [H, W, C]
            return {key: np.stack([np.asarray(v) for v in vs]) for key, vs in found.items()}
        return found

    def with_format(self, kind):
        return Rows(self.columns, self.features, kind)

    def with_transform(self, transform):
        """Rows as `transform` makes them of a batch; the columns' names stay what they were."""
        made = self.with_format("custom")
        made.transform = transform
        return made

    def select(self, rows):
        return Rows({k: [v[i] for i in rows] for k, v in self.columns.items()}, self.features)


class Partitioner:
    """flwr_datasets.partitioner.Partitioner: needs its data set before anything else."""

    def __init__(self, parts):
        self.parts, self.dataset = parts, None

    @property
    def num_partitions(self):
        if self.dataset is None:
            raise AttributeError("The dataset field should be set before using the Partitioner.")
        return len(self.parts)

    def load_partition(self, partition_id):
        return self.dataset.select(self.parts[partition_id])


class Federated:
    """flwr_datasets.FederatedDataset: reads when the first partition is asked for."""

    def __init__(self, splits, partitioners):
        self.splits, self.partitioners = splits, partitioners

    def load_partition(self, partition_id, split=None):
        self.partitioners[split].dataset = self.splits[split]
        return self.partitioners[split].load_partition(partition_id)


def pictures(kind="RGB"):
    return [Pillow.fromarray(pixels) for pixels in (GREY if kind == "L" else COLOUR)]


def rows(image="img", label="label", more=()):
    """Pictures and classes; `more` are columns of classes as well."""
    columns = {image: pictures(), **{key: list(LABELS) for key in (label, *more)}}
    return Rows(columns, {image: Image(), **{key: ClassLabel() for key in (label, *more)}})


def real_rows(image="img", label="label", more=()):
    """The same as `datasets` makes it."""
    import datasets

    classes = datasets.ClassLabel(num_classes=3)
    features = {image: datasets.Image(), **dict.fromkeys((label, *more), classes)}
    columns = {image: pictures(), **dict.fromkeys((label, *more), LABELS)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))
