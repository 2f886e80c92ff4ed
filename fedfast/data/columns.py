"""Columns of a `datasets.Dataset` as tensors; the package itself is not imported."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .protocols import ColumnDataset
from .stacking import label as label_of
from .stacking import stack

BATCH = 1000  # rows asked for at a time
IMAGES = ("image", "img", "images")
LABELS = ("label", "labels", "fine_label", "target", "y")


def pair(
    dataset: ColumnDataset, image: str | None, label: str | None, name: str
) -> tuple[Tensor, Tensor]:
    """The columns (x, y) of a `datasets.Dataset`, values unchecked."""
    if len(dataset) == 0:
        raise ValueError(f"{name}: expected at least one sample; got an empty data set")
    x, y = _column(dataset, "image", image, name), _column(dataset, "label", label, name)
    ys: list[int] = []
    return stack(_inputs(dataset, x, y, name, ys)), torch.tensor(ys, dtype=torch.int64)


def _column(dataset: ColumnDataset, role: str, given: str | None, name: str) -> str:
    """The column for images or labels: that given, the one of such features, the one so called."""
    # A transform of rows makes columns of its own, which column_names does not list.
    known = list(dataset[:1] if _format(dataset) == "custom" else dataset.column_names)
    if given is not None:
        if given not in known:
            raise ValueError(f"{role}: {name} has no column {given!r}; its columns are {known}")
        return given
    kind, called = ("Image", IMAGES) if role == "image" else ("ClassLabel", LABELS)
    features = dataset.features or {}
    typed = [column for column in known if type(features.get(column)).__name__ == kind]
    named = [column for column in called if column in (typed or known)]
    found = typed if len(typed) == 1 else named[:1]
    if not found:
        raise ValueError(f"{role}: cannot tell which column of {name} to take; name one of {known}")
    return found[0]


def _format(dataset: ColumnDataset) -> str | None:
    return (getattr(dataset, "format", None) or {}).get("type")


def _inputs(
    dataset: ColumnDataset, x: str, y: str, name: str, ys: list[int]
) -> Iterator[tuple[str, object]]:
    """(name, input) of every row, its label to `ys`: a transform is applied once, to both alike."""
    if _format(dataset) not in (None, "custom"):
        dataset = dataset.with_format(None)  # formats of their own turn pictures into arrays
    dtypes = {column: _dtype(dataset, column) for column in (x, y)}
    for start in range(0, len(dataset), BATCH):
        rows = dataset[start : start + BATCH]
        for i, (value, target) in enumerate(zip(rows[x], rows[y], strict=True), start):
            where = f"{name}[{i}]"
            yield f"{where}[{x!r}]", _dense(value, dtypes[x], f"{where}[{x!r}]")
            ys.append(label_of(f"{where}[{y!r}]", _dense(target, dtypes[y], f"{where}[{y!r}]")))


def _dtype(dataset: ColumnDataset, column: str) -> str | None:
    """The type of a column of arrays; a transform may make columns that have none."""
    feature = (dataset.features or {}).get(column)
    return getattr(feature, "dtype", None) if type(feature).__name__.startswith("Array") else None


def _dense(value: object, dtype: str | None, name: str) -> object:
    if not isinstance(value, list):
        return value
    try:
        return np.asarray(value, dtype=dtype)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name}: expected numbers in equal lists; got {error}") from None
