"""`Samples`: labelled inputs as two tensors, and `as_samples`, which checks what users give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from . import columns, vision
from .pages import file_of
from .protocols import ColumnDataset, MapDataset
from .size_limits import MAX_LABEL
from .tensors import as_dense
from .transform import Normalize, as_inputs, stored


@dataclass(frozen=True, eq=False)
class Samples:
    """x `[n, ...]` floats, bytes (images) or integer tokens, y `[n]` int64 class labels.

    Targets that are no class labels are y `[n, C]`: floats, or int64 (several labels each).
    normalize  what bytes become (None: x / 255)
    owner      int64 `[n]`, the natural clients that the samples belong to, where that is known
    Made by `as_samples`, which checks them.
    """

    x: Tensor
    y: Tensor
    normalize: Normalize | None = None
    owner: Tensor | None = None

    def __len__(self) -> int:
        return self.y.shape[0]

    def __repr__(self) -> str:
        return f"Samples(x {list(self.x.shape)} {self.x.dtype}, y {list(self.y.shape)})"

    def take(self, rows: Tensor | np.ndarray | slice) -> Samples:
        """Some of the samples, as indexing takes them."""
        owner = None if self.owner is None else self.owner[rows]
        return Samples(self.x[rows], self.y[rows], self.normalize, owner)

    def inputs(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """What a model is given: floats as `dtype`, bytes normalised, tokens as they are."""
        return as_inputs(self.x, self.normalize, dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Samples:
        """The same samples on `device`, floats as `dtype`."""
        return replace(self, x=stored(self.x, device, dtype), y=stored(self.y, device, dtype))


def as_samples(obj: object, name: str = "samples") -> Samples:
    """Samples, a pair (x, y) of tensors or arrays, or a data set of another library, checked.

    x  floats, uint8 (images) and int64 (tokens) are kept as they are, other integers become int64
    y  class labels: integers >= 0, any width, `[n]`; or targets for a loss of one's own: floats
       `[n, C]`, integers or bools `[n, C]` with C > 1
    Views of any strides, byte orders and lazy signs become dense tensors, see `as_dense`.
    A map-style torch Dataset of (picture of Pillow | tensor | array, label) is read once, item by
    item; at once only where its class is TensorDataset, a Subset, or torchvision's own MNIST, CIFAR
    or SVHN without a transform (bytes [n, C, H, W]). What a transform draws at random is drawn
    once for all rounds: random crops and flips belong to `Simulation(augment=...)`. A
    `datasets.Dataset` is read as `from_huggingface` does.
    Raises TypeError/ValueError naming `name`, and the first offending sample where a value is not
    finite or a label negative.
    """
    samples = unchecked(obj, name)
    if len(samples) == 0:
        raise ValueError(f"{name}: expected at least one sample; got none")
    check_values(samples, name)
    return samples


def unchecked(obj: object, name: str) -> Samples:
    """As `as_samples` but checks types and shapes only: values are not read, n may be 0."""
    normalize, owner = (obj.normalize, obj.owner) if isinstance(obj, Samples) else (None, None)
    x, y = _pair(obj, name)
    x, y = _inputs(as_dense(x, f"{name}.x"), f"{name}.x"), as_dense(y, f"{name}.y")
    if x.ndim < 2:
        raise ValueError(f"{name}.x: expected shape [n, ...features]; got {list(x.shape)}")
    if y.ndim == 0 or len(y) != len(x) or not (y.ndim == 1 or _targets(y)):
        raise ValueError(
            f"{name}.y: expected shape [{x.shape[0]}], one label per row of x; got {list(y.shape)}"
        )
    # An empty list of labels arrives as floats: it has no wrong values.
    if y.ndim == 1 and y.numel() and (y.is_floating_point() or y.dtype == torch.bool):
        raise TypeError(
            f"{name}.y: expected integer class labels; got {y.dtype}. Targets for a callable loss "
            f"are [n, C] floats (y[:, None] for one each), labels 0 and 1 integers"
        )
    if normalize is not None:
        normalize.check(f"{name}.x", x)
    if owner is not None:
        owner = as_dense(owner, f"{name}.owner")
        if owner.shape != y.shape[:1] or owner.is_floating_point() or owner.dtype == torch.bool:
            raise ValueError(
                f"{name}.owner: expected integers of shape [{len(y)}]; "
                f"got {owner.dtype} {list(owner.shape)}"
            )
    kept = y.ndim > 1 and y.is_floating_point()
    return Samples(x, y if kept else y.to(torch.int64), normalize, owner)


def _targets(y: Tensor) -> bool:
    """Whether y `[n, ...]` can be no class labels: numbers, or several labels of a sample."""
    return y.is_floating_point() or y[:1].numel() > 1


def check_values(samples: Samples, name: str) -> None:
    """Raise ValueError at a sample with a NaN, an infinite value or a label that is no class.

    Samples that are a mapped file are not read for that: it may be larger than memory.
    """
    if samples.x.is_floating_point() and file_of(samples.x) is None:
        _check_finite(samples.x, name)
    if samples.y.ndim > 1:
        if samples.y.is_floating_point() and not bool(samples.y.isfinite().all()):
            raise ValueError(f"{name}.y: expected finite targets; got a NaN or infinite one")
        return
    if len(samples) and int(samples.y.min()) < 0:
        i = int((samples.y < 0).nonzero()[0])
        raise ValueError(f"{name}.y: expected labels >= 0; sample {i} has {int(samples.y[i])}")
    if len(samples) and int(samples.y.max()) > MAX_LABEL:
        i = int(samples.y.argmax())
        raise ValueError(
            f"{name}.y: expected class labels below {MAX_LABEL + 1:,}; "
            f"sample {i} has {int(samples.y[i])}"
        )


def _check_finite(x: Tensor, name: str) -> None:
    # A sum is finite only if all its terms are, and much cheaper; it may overflow though they are.
    if not bool(x.sum().isfinite()):
        bad = x.flatten(1).isfinite().all(1).logical_not().nonzero()
        if len(bad):
            raise ValueError(
                f"{name}.x: expected finite values; sample {int(bad[0])} has a NaN or infinite one"
            )


def _pair(obj: object, name: str) -> tuple[object, object]:
    if isinstance(obj, Samples):
        return obj.x, obj.y
    if isinstance(obj, (tuple, list)) and len(obj) == 2:
        return obj[0], obj[1]
    kind = type(obj)  # a wrapper that forwards attributes has none of them in its class
    sized = hasattr(kind, "__getitem__") and hasattr(kind, "__len__")
    arrays = (tuple, list, dict, str, bytes, Tensor, np.ndarray, IterableDataset)
    if not sized or isinstance(obj, arrays) or hasattr(kind, "to_numpy"):
        hint = "; pass its .dataset" if isinstance(obj, DataLoader) else ""
        raise TypeError(
            f"{name}: expected Samples, a pair (x, y) or a map-style Dataset with a length; "
            f"got {kind.__name__}{hint}"
        )
    dataset = cast(MapDataset, obj)
    if len(dataset) == 0:
        raise ValueError(f"{name}: expected at least one sample; got an empty Dataset")
    if hasattr(kind, "column_names"):
        return columns.pair(cast(ColumnDataset, obj), None, None, name)
    return vision.pair(dataset, name)


def _inputs(x: Tensor, name: str) -> Tensor:
    if x.dtype == torch.bool:
        raise TypeError(f"{name}: expected floats, uint8 images or integer tokens; got {x.dtype}")
    return x if x.is_floating_point() or x.dtype == torch.uint8 else x.to(torch.int64)
