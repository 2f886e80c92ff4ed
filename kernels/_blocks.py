"""Arguments of the layer operations: tensors `[K, ...]` whose part of a client is contiguous."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._args import same_kind
from ._scalars import kind_of


def _contiguous(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def floating(name: str, value: object, dims: str) -> Tensor:
    """`value` as the operation's first operand: a floating `[K, ...]` tensor, e.g. dims "K, B, I".

    "..." at the end of dims stands for any number of dimensions.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(value)}")
    if not value.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating dtype; got {value.dtype}")
    count = dims.count(",") + 1
    if value.ndim < count - 1 if "..." in dims else value.ndim != count:
        raise ValueError(f"{name}: expected shape [{dims}]; got {list(value.shape)}")
    return _dense(name, value)


def by_class(name: str, value: object) -> Tensor:
    """`value` as logits: floating `[K, B, C]`, C > 0."""
    logits = floating(name, value, "K, B, C")
    if logits.shape[2] == 0:
        raise ValueError(f"{name}: expected at least one class; got shape {list(logits.shape)}")
    return logits


def _dense(name: str, value: Tensor) -> Tensor:
    if not value.is_contiguous() and not _contiguous(value.shape[1:], value.stride()[1:]):
        raise ValueError(
            f"{name}: expected each client's part to be contiguous; got strides {value.stride()}"
        )
    return value


def extent(value: object, place: int) -> int:
    """A dimension, counted from the end, of what should be a tensor; 0 where it is none."""
    return value.shape[place] if isinstance(value, Tensor) and value.ndim >= -place else 0


def block(name: str, value: object, shape: Sequence[int], like: Tensor) -> Tensor:
    """A `[K, ...]` tensor of that shape, dtype and device; without K it is shared (stride 0)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(value)}")
    if value.ndim == len(shape) - 1:
        value = value.expand(shape[0], *value.shape)
    if value.shape != tuple(shape):
        raise ValueError(f"{name}: expected shape {list(shape)}; got {list(value.shape)}")
    same_kind(name, value, like)
    return _dense(name, value)


def written(name: str, value: Tensor | None, shape: Sequence[int], like: Tensor) -> Tensor:
    """An output `[K, ...]`, allocated if None; clients that share memory cannot be written."""
    if value is None:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    value = block(name, value, shape, like)
    if shape[0] > 1 and value.stride(0) == 0:
        raise ValueError(
            f"{name}: expected memory for each of {shape[0]} clients; got client stride 0"
        )
    return value


def integers(
    name: str, value: object, shape: Sequence[int], dtype: torch.dtype, at: Tensor
) -> Tensor:
    """A contiguous integer tensor of that shape and dtype on `at`'s device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(value)}")
    if value.shape != tuple(shape):
        raise ValueError(f"{name}: expected shape {list(shape)}; got {list(value.shape)}")
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}; got {value.dtype}")
    if value.device != at.device:
        raise ValueError(f"{name}: expected device {at.device}; got {value.device}")
    return value.contiguous()


def dense_integers(
    name: str, value: object, shape: Sequence[int], dtype: torch.dtype, at: Tensor
) -> Tensor:
    """`integers` that must be contiguous, since they are written or large."""
    same = integers(name, value, shape, dtype, at)
    if isinstance(value, Tensor) and same.data_ptr() != value.data_ptr():
        raise ValueError(f"{name}: expected a contiguous tensor; got strides {value.stride()}")
    return same


def float64_per_client(name: str, value: Tensor | None, x: Tensor) -> Tensor | None:
    """None, or a float64 `[K]` with any stride on the device of x."""
    if value is None:
        return None
    if not isinstance(value, Tensor) or value.dtype != torch.float64:
        found = value.dtype if isinstance(value, Tensor) else kind_of(value)
        raise TypeError(f"{name}: expected a float64 tensor; got {found}")
    if value.shape != x.shape[:1] or value.device != x.device:
        raise ValueError(
            f"{name}: expected shape [{x.shape[0]}] on {x.device}; "
            f"got {list(value.shape)} on {value.device}"
        )
    return value
