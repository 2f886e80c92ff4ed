"""Map-style data sets of torch and torchvision, which is not imported: read item by item.

Whole arrays are taken only where the code that would make the items is torch's or torchvision's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from .protocols import MapDataset
from .size_limits import check_memory
from .stacking import is_picture, label, picture, stack
from .tensors import as_dense

Pair = tuple[Tensor, Tensor]


def _item_methods(kind: type) -> list[object]:
    """What `dataset[i]`, `len` and attributes call."""
    return [getattr(kind, name) for name in ("__getitem__", "__len__", "__getattribute__")]


# As they were when this module was loaded: a class with replaced methods is read item by item.
_TORCH: dict[type, list[object]] = {kind: _item_methods(kind) for kind in (TensorDataset, Subset)}
_TORCHVISION = {"MNIST": "mnist", "CIFAR10": "cifar", "SVHN": "svhn"}  # class -> module


def pair(dataset: MapDataset, name: str) -> Pair:
    """(x, y) of a map-style data set of (picture | tensor | array, label), see `as_samples`.

    Every item is asked for once, in order. Raises TypeError/ValueError naming the item.
    """
    arrays = _as_arrays(dataset)
    if arrays is not None:
        return arrays
    ys: list[int] = []
    x = stack(_inputs(dataset, name, ys))
    return x, torch.tensor(ys, dtype=torch.int64)


def _inputs(dataset: MapDataset, name: str, ys: list[int]) -> Iterator[tuple[str, object]]:
    """(name, input) of every item; its label goes to `ys`."""
    count = len(dataset)
    for i in range(count):
        x, y = _item(dataset, i, name)
        if i == 0 and isinstance(x, Tensor | np.ndarray):
            check_memory(name, count * x.nbytes)
        yield f"{name}[{i}][0]", x
        ys.append(label(f"{name}[{i}][1]", y))


def _item(dataset: MapDataset, i: int, name: str) -> Sequence[object]:
    try:
        item = dataset[i]
    except IndexError as error:
        raise ValueError(
            f"{name}[{i}]: expected {len(dataset)} items, which is its length; got {error!r}"
        ) from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"{name}[{i}]: expected a pair (x, y); got {type(item).__name__}")
    return item


def _as_arrays(dataset: MapDataset) -> Pair | None:
    """All inputs and labels at once, where the class is known to give just these as its items."""
    if isinstance(dataset, TensorDataset) and _is_unchanged(dataset, TensorDataset):
        return _tensors(dataset.tensors)
    if isinstance(dataset, Subset) and _is_unchanged(dataset, Subset):
        of = _as_arrays(cast(MapDataset, dataset.dataset))
        if of is None:
            return None
        rows = torch.as_tensor([int(i) for i in dataset.indices], dtype=torch.int64)
        if len(rows) and not -len(of[1]) <= int(rows.min()) <= int(rows.max()) < len(of[1]):
            return None  # the item that is not there will be named
        return of[0][rows], of[1][rows]
    return _torchvision(dataset) if _is_torchvision(dataset) else None


def _is_unchanged(dataset: object, kind: type) -> bool:
    """Whether it is of this class itself, with the methods that torch gave it."""
    return type(dataset) is kind and _item_methods(kind) == _TORCH[kind]


def _tensors(tensors: Sequence[Tensor]) -> Pair | None:
    if len(tensors) != 2 or any(type(t) is not Tensor for t in tensors):
        return None
    y = tensors[1]
    whole = y.ndim == 1 and not y.is_floating_point() and not y.is_complex()
    if not whole or y.dtype == torch.bool or len(tensors[0]) != len(y):
        return None
    return as_dense(tensors[0], "x"), as_dense(y, "y")


def _is_torchvision(dataset: MapDataset) -> bool:
    """Whether `dataset[i]` runs torchvision's own code, on arrays that are the instance's own."""
    kind = type(dataset)
    code = getattr(kind.__getitem__, "__code__", None)
    for name, file in _TORCHVISION.items():
        module = sys.modules.get(f"torchvision.datasets.{file}")
        known = getattr(getattr(module, name, None), "__getitem__", None)
        if (
            module is None
            or code is None
            or known is not kind.__getitem__
            or code.co_filename != module.__file__
        ):
            continue
        default = kind.__getattribute__ is object.__getattribute__
        return default and kind.__module__ == module.__name__ and "data" in vars(dataset)
    return False


def _torchvision(dataset: MapDataset) -> Pair | None:
    hooks = ("transform", "target_transform", "transforms")
    pixels, targets = getattr(dataset, "data", None), getattr(dataset, "targets", None)
    targets = getattr(dataset, "labels", None) if targets is None else targets
    if any(getattr(dataset, hook, None) is not None for hook in hooks) or targets is None:
        return None
    if not isinstance(pixels, (Tensor, np.ndarray)) or pixels.ndim not in (3, 4):
        return None
    x, y = as_dense(pixels, "data"), torch.as_tensor(np.asarray(targets))
    if x.dtype != torch.uint8 or not len(dataset) == len(x) == len(y):
        return None
    for turned in (x[:, None] if x.ndim == 3 else x, x.movedim(-1, 1)):
        if all(_item_equals(dataset, i, turned[i], int(y[i])) for i in (0, len(x) - 1)):
            return turned.contiguous(), y
    return None


def _item_equals(dataset: MapDataset, i: int, x: Tensor, y: int) -> bool:
    item = dataset[i]
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not is_picture(item[0]):
        return False
    return torch.equal(picture(item[0], "item"), x) and int(item[1]) == y
