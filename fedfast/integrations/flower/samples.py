"""Samples of a batch, of whatever form it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .unsupported import Unsupported

TARGETS = ("label", "labels", "y", "target", "targets", "fine_label", "character")


def unpack(batch: object) -> tuple[Tensor, Tensor]:
    """(inputs, targets) of a tuple or list of two, or of a dict with one key that names targets."""
    if isinstance(batch, Mapping):
        targets = [key for key in batch if key in TARGETS]
        inputs = [key for key in batch if key not in TARGETS]
        if len(targets) == 1 and len(inputs) == 1:
            return _tensors(batch[inputs[0]], batch[targets[0]])
    elif isinstance(batch, Sequence) and len(batch) == 2:
        return _tensors(batch[0], batch[1])
    keys = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
    raise Unsupported(f"batches of the form {keys}: say Training(unpack=...) what are inputs")


def _tensors(x: object, y: object) -> tuple[Tensor, Tensor]:
    if not isinstance(x, Tensor):
        raise Unsupported(f"batches whose inputs are {type(x).__name__}, not a tensor")
    return x, y if isinstance(y, Tensor) else torch.as_tensor(y)


def doubled(batch: object) -> object:
    """The batch in float64."""
    if isinstance(batch, Tensor):
        return double(batch)
    if isinstance(batch, Mapping):
        return {key: doubled(value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)([doubled(value) for value in batch])
    return batch


def double(tensor: Tensor) -> Tensor:
    """A floating tensor in float64, another one as it is."""
    return tensor.double() if tensor.is_floating_point() else tensor
