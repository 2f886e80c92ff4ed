"""Checks of single values, by kind: `check(name, value)` raises TypeError or ValueError.

Those with bounds name them as pydantic does, so that `fedfast.config` can derive its own from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._messages import format_value, unknown

# Counters of the random numbers have 32 bits, one of which a second exchange of a round takes;
# batches are counted in int32.
COUNT = (1 << 31) - 1


def integer(name: str, value: object) -> None:
    """An int, not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer; got {format_value(value)}")


def boolean(name: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False; got {format_value(value)}")


@dataclass(frozen=True)
class Count:
    """An integer from 1 to `le`."""

    le: int = COUNT
    ge: int = 1

    def __call__(self, name: str, value: int) -> None:
        integer(name, value)
        if value < self.ge:
            raise ValueError(f"{name}: expected at least {self.ge}; got {format_value(value)}")
        if value > self.le:
            raise ValueError(f"{name}: expected at most {self.le:,}; got {format_value(value)}")


@dataclass(frozen=True)
class Number:
    """A finite number, > `gt`, >= `ge`."""

    gt: float | None = None
    ge: float | None = None

    def __call__(self, name: str, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: expected a number; got {format_value(value)}")
        if isinstance(value, int) and value.bit_length() > 1023:
            text = format_value(value)
            raise ValueError(f"{name}: expected a number that a float can hold; got {text}")
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number; got {format_value(value)}")
        if self.gt is not None and value <= self.gt:
            raise ValueError(
                f"{name}: expected a number above {self.gt:g}; got {format_value(value)}"
            )
        if self.ge is not None and value < self.ge:
            raise ValueError(f"{name}: expected a number >= {self.ge:g}; got {format_value(value)}")


@dataclass(frozen=True)
class Share(Number):
    """A number in (0, 1]."""

    gt: float | None = 0.0
    le: float = 1.0

    def __call__(self, name: str, value: float) -> None:
        Number()(name, value)
        if not 0 < value <= 1:
            raise ValueError(f"{name}: expected a share in (0, 1]; got {format_value(value)}")


@dataclass(frozen=True)
class OneOf:
    """One of these names."""

    names: Sequence[str]

    def __call__(self, name: str, value: object) -> None:
        if not isinstance(value, str) or value not in self.names:
            raise unknown(name, value, self.names)


def memory_budget(name: str, value: float | str) -> None:
    """ "auto", or a number of GiB above 0."""
    if not isinstance(value, str):
        Number(gt=0.0)(name, value)
    elif value != "auto":
        raise ValueError(f"{name}: expected 'auto' or a number of GiB; got {format_value(value)}")


def folder_name(name: str, value: str) -> None:
    """The name of a folder."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected the name of a folder; got {format_value(value)}")
