"""Checks of how a run goes: device, type, algorithm, callbacks, learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from .._messages import format_value
from ..algorithms import Algorithm, by_name
from ..algorithms._hook_checks import foreign, overrides
from ..algorithms.base import check_combination
from ..callbacks import Given, callback
from .values import Number


def device(value: str | torch.device) -> torch.device:
    """A torch device that is here; "auto" is CUDA where there is one."""
    if isinstance(value, str) and value == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not isinstance(value, (str, torch.device)):
            raise TypeError
        found = torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device: expected 'auto', 'cpu' or 'cuda'; got {format_value(value)}"
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda'; got {format_value(value)}")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {value!r} asked for, but torch finds no CUDA device here")
    return found


def dtype(value: torch.dtype) -> torch.dtype:
    """float32 or float64."""
    if not isinstance(value, torch.dtype) or value not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype: expected torch.float32 or torch.float64; got {format_value(value)} "
            "(half precision loses the small steps that clients add up)"
        )
    return value


def algorithm(value: Algorithm | str) -> Algorithm:
    """An algorithm object, or one by name."""
    if isinstance(value, str):
        return by_name(value)
    if not isinstance(value, Algorithm):
        raise TypeError(
            "algorithm: expected a name or an object of fedfast.algorithms; "
            f"got {format_value(value)}"
        )
    check_combination(value)  # hooks may have been given to its classes since it was made
    return value


def client_decay(value: Algorithm, per: str, decay: float) -> float:
    """The factor on a client's own rate per local epoch it has done, 1 where it has none."""
    own = value.client_decay
    if per == "round" or decay == 1.0:
        return own
    if own != 1.0:
        raise ValueError(
            f"lr_decay_per: expected one decay per client_epoch; got lr_decay {decay} of the run "
            f"and {own} of {value.name}"
        )
    if overrides(value, "rate", Algorithm) and foreign(value):
        raise ValueError(
            f"lr_decay_per: expected 'round' under {type(value).__name__}, which has a rate of its "
            f"own; got {per!r}"
        )
    return decay


def callbacks(value: object) -> tuple[Given, ...]:
    """A sequence of callables f(sim, row), of objects with `on_round_end` or its like, of names."""
    if isinstance(value, str | Mapping) or callable(value) or not isinstance(value, Iterable):
        raise _no_callbacks(value)
    try:
        given = list(value)
    except TypeError:  # a 0-d array claims to be iterable
        raise _no_callbacks(value) from None
    return tuple(map(callback, given))


def _no_callbacks(value: object) -> TypeError:
    return TypeError(
        "callbacks: expected a sequence of callables f(sim, row), callback objects or names; got "
        f"{format_value(value)}"
    )


def learning_rate(lr: float | Callable[[int], float], decay: float) -> Callable[[int], float]:
    """Round -> learning rate."""
    if callable(lr):
        if decay != 1.0:
            raise ValueError("lr_decay: a callable lr decides alone; leave lr_decay at 1")
        return lambda t: _rate(lr, t)
    Number(gt=0)("lr", lr)
    return lambda t: lr * decay**t


def _rate(schedule: Callable[[int], float], t: int) -> float:
    """The schedule's learning rate in round `t`; 0 would leave the clients' state undefined."""
    try:
        found = float(schedule(t))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"lr: expected a number in round {t}; got an error ({error})") from error
    Number(gt=0)(f"lr in round {t}", found)
    return found
