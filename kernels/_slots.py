"""Sums of squares in float64, `[K]`, or several of each client, `[K, n]`, that are added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._scalars import kind_of


def slots(name: str, squares: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """One or two tensors `[K, n]` float64 with any strides."""
    if not isinstance(squares, Sequence):
        raise TypeError(f"{name}: expected a sequence of tensors; got {kind_of(squares)}")
    if not 1 <= len(squares) <= 2:
        raise ValueError(f"{name}: expected one or two tensors; got {len(squares)}")
    return [float64(f"{name}[{i}]", s, 2, like) for i, s in enumerate(squares)]


def float64(name: str, value: Tensor, dims: int, like: Tensor) -> Tensor:
    """A float64 tensor `[K]` or, of two dimensions, `[K, n]` on the device of `like`."""
    if not isinstance(value, Tensor) or value.dtype != torch.float64:
        found = value.dtype if isinstance(value, Tensor) else kind_of(value)
        raise TypeError(f"{name}: expected a float64 tensor; got {found}")
    if value.ndim != dims or value.shape[0] != like.shape[0]:
        shape = "[K]" if dims == 1 else "[K, n]"
        raise ValueError(f"{name}: expected shape {shape}; got {list(value.shape)}")
    if value.device != like.device:
        raise ValueError(f"{name}: expected device {like.device}; got {value.device}")
    return value
