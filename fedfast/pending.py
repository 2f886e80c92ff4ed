"""What follows from numbers that are still on a device; of many such, read in one wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from .transfers import arrays_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


@dataclass(frozen=True)
class Pending(Generic[T_co]):
    """What follows from numbers of a device: these are there once the host has waited for them.

    tensors  what is read; made: what follows from them, as arrays in float64
    """

    tensors: Sequence[Tensor]
    made: Callable[[Sequence[np.ndarray]], T_co]

    def read(self) -> T_co:
        """Wait, once."""
        return self.made(arrays_of(*self.tensors))

    def then(self, more: Callable[[T_co], U]) -> Pending[U]:
        """What `more` makes of it."""
        return Pending(self.tensors, lambda found: more(self.made(found)))


def known(value: T) -> Pending[T]:
    """Nothing has to be read."""
    return Pending((), lambda _: value)


def together(pending: Sequence[Pending[T]]) -> Pending[list[T]]:
    """All of them, in one wait."""
    ends = list(accumulate((len(each.tensors) for each in pending), initial=0))

    def made(found: Sequence[np.ndarray]) -> list[T]:
        parts = (found[a:b] for a, b in pairwise(ends))
        return [each.made(part) for each, part in zip(pending, parts, strict=True)]

    return Pending([t for each in pending for t in each.tensors], made)


def both(one: Pending[T], other: Pending[U]) -> Pending[tuple[T, U]]:
    """Two of different kinds, in one wait."""
    first = len(one.tensors)

    def made(found: Sequence[np.ndarray]) -> tuple[T, U]:
        return one.made(found[:first]), other.made(found[first:])

    return Pending([*one.tensors, *other.tensors], made)
