"""Data sets of Hugging Face (`datasets`); the package itself is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from .columns import pair
from .dataset import Data
from .protocols import ColumnDataset
from .samples import Samples, as_samples

TESTS = ("test", "validation", "valid")


def from_huggingface(
    dataset: object, image: str | None = None, label: str | None = None, name: str = "dataset"
) -> Samples | Data:
    """A `datasets.Dataset` as samples; a `DatasetDict` as `Data` of its train and test splits.

    image, label  the columns; None finds them: the one of images (or called image, img), the one of
                  class labels (or called label, labels, fine_label, target)
    name          what errors, and the `Data`, are called
    Pictures become bytes; columns of arrays keep their type and axes. The test part is the split
    test, or else validation; without them there is none. Raises TypeError for what is no such data
    set, ValueError for a column that is not there, cannot be found, or holds something else.
    """
    if isinstance(dataset, Mapping):
        return _splits(dataset, image, label, name)
    return read(dataset, image, label, name)


def read(dataset: object, image: str | None, label: str | None, name: str) -> Samples:
    """One `datasets.Dataset`, as `from_huggingface` takes it."""
    methods = ("column_names", "features", "__len__", "__getitem__")
    if isinstance(dataset, Mapping) or not all(hasattr(dataset, method) for method in methods):
        raise TypeError(
            f"{name}: expected a datasets.Dataset that is not streamed, or a DatasetDict of them; "
            f"got {type(dataset).__name__}"
        )
    return as_samples(pair(cast(ColumnDataset, dataset), image, label, name), name)


def _splits(splits: Mapping[str, object], image: str | None, label: str | None, name: str) -> Data:
    if "train" not in splits:
        raise ValueError(f"{name}: expected a split 'train'; found {list(splits)}")
    at = next((part for part in TESTS if part in splits), None)
    train = read(splits["train"], image, label, f"{name}['train']")
    test = None if at is None else read(splits[at], image, label, f"{name}[{at!r}]")
    ys = [part.y for part in (train, test) if part is not None]
    return Data(train, test, name, 1 + max(int(y.max()) for y in ys))
