"""Numbers, ints and bools of operations, one helper each; their errors name the argument."""

from __future__ import annotations

from numbers import Integral, Real
from typing import NoReturn, TypeGuard

import numpy as np

INT64 = (1 << 63) - 1


def kind_of(value: object) -> str:
    """What an error says was given."""
    return "None" if value is None else type(value).__name__


def brief(value: object) -> str:
    """Its repr; the type of what has none, as ints of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a huge {type(value).__name__}"


def missing(name: str) -> NoReturn:
    """Refuse None for a tensor that the signature requires."""
    raise TypeError(f"{name}: expected a tensor; got None")


def number(name: str, value: object, wanted: str = "a number") -> float:
    """A real number, no bool, as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {wanted}; got {kind_of(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number that a float can hold") from None


def is_integer(value: object) -> TypeGuard[int]:
    """Whether it is an int, numpy's included, and no bool."""
    return value.__class__ is int or (isinstance(value, Integral) and not isinstance(value, bool))


def integer(name: str, value: object, least: int = -INT64, most: int = INT64) -> int:
    """An int from `least` to `most`, no bool."""
    if not is_integer(value):
        raise TypeError(f"{name}: expected an int; got {kind_of(value)}")
    if not least <= value <= most:
        wanted = f">= {least}" if value < least else f"<= {most}"
        raise ValueError(f"{name}: expected an int {wanted}; got {brief(value)}")
    return int(value)  # Triton binds no NumPy scalars


def flag(name: str, value: object) -> bool:
    """A bool, numpy's included."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a bool; got {kind_of(value)}")
    return bool(value)
