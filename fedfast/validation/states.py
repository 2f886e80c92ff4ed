"""Checks of models that are averaged: state dicts, or tensors, all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .._messages import format_value


def states(models: Sequence[object]) -> list[Mapping[str, Tensor]]:
    """Mappings of the same names, with tensors of the same shapes and dtypes."""
    first, *others = (_state(model, k) for k, model in enumerate(models))
    for k, other in enumerate(others, 1):
        missing, more = sorted(first.keys() - other.keys()), sorted(other.keys() - first.keys())
        if missing or more:
            raise ValueError(
                f"models[{k}]: expected the names of models[0]; "
                f"{_names('without', missing)}{', ' * bool(missing and more)}"
                f"{_names('with', more)}"
            )
    for name, tensor in first.items():
        _check(tensor, f"models[0][{name!r}]")
        for k, other in enumerate(others, 1):
            _check_like(other[name], tensor, f"models[{k}][{name!r}]")
    return [first, *others]


def tensors(models: Sequence[object]) -> list[Tensor]:
    """Tensors of the same shape and dtype."""
    found: list[Tensor] = []
    for k, model in enumerate(models):
        if not isinstance(model, Tensor):
            raise TypeError(f"models[{k}]: expected a tensor as models[0]; got {_kind(model)}")
        _check_like(model, found[0] if found else model, f"models[{k}]")
        found.append(model)
    return found


def _state(model: object, k: int) -> Mapping[str, Tensor]:
    if not isinstance(model, Mapping):
        hint = " (its state_dict())" if isinstance(model, torch.nn.Module) else ""
        raise TypeError(f"models[{k}]: expected a state dict{hint}; got {_kind(model)}")
    for name, value in model.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"models[{k}][{name!r}]: expected a tensor; got {_kind(value)}")
    return model


def _check(tensor: Tensor, name: str) -> None:
    dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta
    # Without the floats of 8 bits, which torch does not sum.
    if not dense or not torch.can_cast(tensor.dtype, torch.float64) or _is_tiny(tensor.dtype):
        where = ", without data" if tensor.is_meta else f", {tensor.layout}"
        raise TypeError(
            f"{name}: expected a dense tensor of real numbers; got {tensor.dtype}{where}"
        )


def _is_tiny(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize < 2


def _check_like(tensor: Tensor, first: Tensor, name: str) -> None:
    _check(tensor, name)
    if tensor.shape != first.shape:
        wanted = f"shape {list(first.shape)} as in models[0]"
        raise ValueError(f"{name}: expected {wanted}; got {list(tensor.shape)}")
    if tensor.dtype != first.dtype:
        raise ValueError(f"{name}: expected {first.dtype} as in models[0]; got {tensor.dtype}")


def _names(word: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{word} {', '.join(map(format_value, names[:3]))}{more}"


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
