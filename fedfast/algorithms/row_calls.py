"""`RowCall`: a fused operation on clients' rows with its arguments, to be done or to be repeated.

Hooks that only call operations can say which: an engine that repeats a round's steps from a
recorded plan does these, client by client, while a client's rows are in the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..kernels.placed import PlacedRows, RowsLike


@dataclass(frozen=True)
class StepNumbers:
    """A coefficient that differs from step to step: its value at each of a round's steps."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class RowCall:
    """`operation(*rows, **options, backend=...)`, which writes to its `out` alone.

    rows, options  tensors, `PlacedRows`, numbers, and sequences of those; in terms also
                   (rows, `StepNumbers`)
    """

    operation: Callable[..., object]
    rows: tuple[object, ...]
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """The memory and the numbers that it works with."""
        named = [part for name, value in self.options.items() for part in (name, *_key(value))]
        return self.operation, *_key(self.rows), *named

    def step_numbers(self) -> list[StepNumbers]:
        """Those among its coefficients."""
        pairs = [pair for part in self.rows if isinstance(part, list) for pair in part]
        return [pair[1] for pair in pairs if isinstance(pair, tuple) and _stepwise(pair[1])]

    def with_numbers(self, now: Mapping[StepNumbers, Tensor]) -> RowCall:
        """The same with coefficients [K] instead."""

        def put(pair: object) -> object:
            if isinstance(pair, tuple) and _stepwise(pair[1]):
                return pair[0], now[pair[1]]
            return pair

        rows = [[put(x) for x in part] if isinstance(part, list) else part for part in self.rows]
        return replace(self, rows=tuple(rows))

    def apply(self, backend: str) -> None:
        """Do it."""
        self.operation(*self.rows, **self.options, backend=backend)


@dataclass(frozen=True)
class RecordedAscent:
    """An optimizer's part of a round, as calls that a plan repeats.

    first, later  at a client's first step, and at every other one: they write `ahead`
    begin, end    before a client's first step, and behind its last; what `begin` and `finish` do
    """

    first: Sequence[RowCall]
    later: Sequence[RowCall]
    begin: Sequence[RowCall] = ()
    end: Sequence[RowCall] = ()


def place_of(rows: RowsLike) -> tuple[int, ...]:
    """Where rows lie; what a plan reads anew at every run is not part of it."""
    if isinstance(rows, PlacedRows):
        return rows.table.data_ptr(), rows.table.stride(0), rows.places.data_ptr()
    return rows.data_ptr(), rows.stride(0)


@lru_cache(maxsize=2)
def _zeros(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.zeros(size, dtype=dtype, device=device)


def origin(like: Tensor) -> Tensor:
    """A row of zeros [S] beside `like` [..., S], to be read; the same one for every round."""
    return _zeros(like.shape[-1], like.dtype, like.device)


def _stepwise(coefficient: object) -> bool:
    return isinstance(coefficient, StepNumbers)


def _key(value: object) -> tuple[Hashable, ...]:
    if isinstance(value, Tensor | PlacedRows):
        return place_of(value)
    if isinstance(value, tuple | list):
        return len(value), *(part for each in value for part in _key(each))
    assert isinstance(value, Hashable)
    return (value,)
