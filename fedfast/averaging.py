"""`fedfast.aggregate`: the weighted mean of models, for a server of your own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Protocol, TypeAlias, overload, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ._messages import format_value
from .layout import ROUNDING
from .validation import states
from .weighted_sums import sum_of_rows, sum_of_tensors

Weights: TypeAlias = Sequence[float] | Tensor | np.ndarray
State: TypeAlias = Mapping[str, Tensor]


@runtime_checkable
class Update(Protocol):
    """What `fedfast.Cohort.train` returns, as far as a mean needs it."""

    samples: Tensor
    ids: Tensor

    def state_dict(self, j: int) -> dict[str, Tensor]:
        """The j-th model, views."""


@overload
def aggregate(models: Tensor | Sequence[Tensor], weights: Weights | None = None) -> Tensor: ...
@overload
def aggregate(
    models: Sequence[State] | Update, weights: Weights | None = None
) -> dict[str, Tensor]: ...
def aggregate(
    models: Tensor | Sequence[Tensor] | Sequence[State] | Update, weights: Weights | None = None
) -> Tensor | dict[str, Tensor]:
    """The mean of K models, `sum_k a_k models_k` with `a_k = weights_k / sum(weights)`.

    models    a sequence of state dicts; of tensors of one shape; a tensor `[K, ...]`; or what
              `Cohort.train` returns
    weights   one number >= 0 for each model, of any scale: numbers of samples as they are. None:
              equal ones, and a cohort's own numbers of samples. A model of weight 0 is not read
    Returns a state dict in the order of the first, or a tensor; new memory, without gradients.

    Sums are float64; each result is rounded once, to the dtype that the tensor has, and lies on the
    device of the first model. What is no float (BatchNorm's `num_batches_tracked`) becomes what
    `load_state_dict` makes of a mean: the whole number towards zero. Names that share a tensor in
    every model share one in the result. Nothing is copied on the way but what is not contiguous, or
    on another device.

    Raises ValueError for names, shapes or dtypes that differ (naming model and tensor), for weights
    that are negative, not finite, all zero or not one for each model, and for no models; TypeError
    for what is neither tensor nor state dict.
    Source: FedAvg, McMahan et al. 2017, alg. 1.
    """
    if isinstance(models, Update) and not isinstance(models, Tensor):
        weights = models.samples if weights is None else weights
        models = [models.state_dict(j) for j in range(len(models.ids))]
    with torch.no_grad():
        if isinstance(models, Tensor):
            return _mean_of_bank(models, weights)
        listed = _listed(models)
        shares = _shares(weights, len(listed))
        if isinstance(listed[0], Tensor):
            return _mean(states.tensors(listed), shares)
        return _mean_of_states(states.states(listed), shares)


def _listed(models: object) -> list[object]:
    if isinstance(models, Mapping | str | bytes) or not isinstance(models, Iterable):
        raise TypeError(
            "models: expected a sequence of state dicts or tensors, or a tensor [K, ...]; "
            f"got {'None' if models is None else type(models).__name__}"
        )
    listed = list(models)
    if not listed:
        raise ValueError("models: expected at least one; got none")
    return listed


def _shares(weights: Weights | None, count: int) -> list[float]:
    """The weights, checked, times a power of two: the largest is between 1/2 and 1."""
    if weights is None:
        return [1.0] * count
    listed = weights.tolist() if isinstance(weights, Tensor | np.ndarray) else weights
    if isinstance(listed, Mapping | str | bytes) or not isinstance(listed, Iterable):
        raise TypeError(f"weights: expected one number for each model; got {format_value(weights)}")
    found = [_weight(value, k) for k, value in enumerate(listed)]
    if len(found) != count:
        raise ValueError(f"weights: expected one for each of {count} models; got {len(found)}")
    if max(found) == 0.0:
        raise ValueError("weights: expected at least one above 0; got zeros")
    _, exponent = math.frexp(max(found))
    return [math.ldexp(value, -exponent) for value in found]


def _weight(value: object, k: int) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError(f"weights[{k}]: expected a number; got {format_value(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(f"weights[{k}]: expected a finite number >= 0; got {number}")
    return number


def _mean_of_bank(bank: Tensor, weights: Weights | None) -> Tensor:
    if bank.ndim == 0 or len(bank) == 0:
        raise ValueError(f"models: expected a tensor [K, ...], K >= 1; got {list(bank.shape)}")
    states.tensors([bank])
    if not bank.is_floating_point():
        return _mean(bank.unbind(), _shares(weights, len(bank)))
    shares = torch.tensor(_shares(weights, len(bank)), dtype=torch.float64, device=bank.device)
    used = shares > 0  # a model of weight 0 may be anything, NaN too
    rows = bank.reshape(len(bank), -1)
    if not bool(used.all()):
        rows, shares = rows[used], shares[used]
    mean = sum_of_rows(rows, shares) / shares.sum()
    return _rounded(mean.view(bank.shape[1:]), bank.dtype)


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    used = [k for k, share in enumerate(shares) if share > 0.0]
    first, *others = (tensors[k] for k in used)
    if _is_long(first) and all(torch.equal(t.to(first), first) for t in others):
        return first.to(tensors[0].device, copy=True)
    total = sum_of_tensors([tensors[k] for k in used], [shares[k] for k in used])
    return _rounded(total.div_(math.fsum(shares)), tensors[0].dtype).to(tensors[0].device)


def _is_long(t: Tensor) -> bool:
    """Whether there are integers in it that float64 does not hold."""
    whole = t.dtype.itemsize == 8 and not t.is_floating_point()
    return whole and bool((t.double().abs() >= 2.0**53).any())


def _rounded(mean: Tensor, dtype: torch.dtype) -> Tensor:
    """In the dtype of the tensors; what is no float as `load_state_dict` casts a mean.

    What rounding took from a whole number (2.9999999) is given back first.
    """
    if dtype.is_floating_point:
        return mean.to(dtype)
    if dtype is torch.bool:
        return mean.ne(0)
    return (mean + ROUNDING * mean.sign()).trunc().to(dtype)


def _mean_of_states(models: Sequence[State], shares: Sequence[float]) -> dict[str, Tensor]:
    means: dict[tuple[object, ...], Tensor] = {}
    result = {}
    for name in models[0]:
        tensors = [model[name] for model in models]
        same = tuple(_memory(t) for t in tensors)
        if same not in means:
            means[same] = _mean(tensors, shares)
        result[name] = means[same]
    return result


def _memory(t: Tensor) -> tuple[object, ...]:
    """What two names for one tensor have in common; one without elements is only itself."""
    where = t.data_ptr() if t.numel() else id(t)
    return t.device, t.dtype, where, t.shape, t.stride()
