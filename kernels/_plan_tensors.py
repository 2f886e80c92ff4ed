"""Tensors on the CPU that plans are given: dtype, dimensions, strides."""

from __future__ import annotations

import torch
from torch import Tensor

from . import native
from ._scalars import kind_of


def check_table(
    name: str, value: object, dtype: torch.dtype, dims: int, shape: tuple[int, ...] | None = None
) -> Tensor:
    """`value`, a tensor on the CPU of that dtype, number of dimensions and shape, K or more."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor of {dtype}; got {kind_of(value)}")
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}; got {value.dtype}")
    fits = value.ndim == dims
    if fits and shape is not None:
        fits = value.shape[0] >= shape[0] and value.shape[1:] == torch.Size(shape[1:])
    if not fits:
        wanted = f"{dims} dimensions" if shape is None else f"shape {list(shape)}, or more clients"
        raise ValueError(f"{name}: expected {wanted}; got {list(value.shape)}")
    if value.device.type != "cpu":
        raise ValueError(f"{name}: expected device cpu; got {value.device}")
    return value


def check_numbers(name: str, value: object) -> None:
    """Raise unless `value` is a float32 or float64 tensor on the CPU of one dimension."""
    if not isinstance(value, Tensor) or value.dtype not in native.DTYPES:
        found = value.dtype if isinstance(value, Tensor) else kind_of(value)
        raise TypeError(f"{name}: expected a float32 or float64 tensor [K]; got {found}")
    check_table(name, value, value.dtype, 1)


def check_dense(name: str, value: Tensor, first: int) -> None:
    """Raise ValueError unless the dimensions from `first` on are contiguous."""
    if value.shape[0] and not (value if first == 0 else value[0]).is_contiguous():
        raise ValueError(f"{name}: expected contiguous numbers; got strides {value.stride()}")
