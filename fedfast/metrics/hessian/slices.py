"""Samples of K models cut into slices, and slices joined into chunks that run side by side.

A slice is up to `batch` samples of one model. How a model's samples are cut follows from their
number alone, so that its bits do not depend on other models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from ...data import Samples

LEAST = 8  # samples of the narrowest buffers


@dataclass(frozen=True)
class Slice:
    """Samples `start` to `start + count` of a model's; `width` rows of a buffer hold them."""

    model: int
    start: int
    count: int
    width: int


@dataclass(frozen=True)
class Chunk:
    """Slices of one width: of several models one each, or several of one model."""

    slices: tuple[Slice, ...]

    @property
    def models(self) -> list[int]:
        """Whose each slice is."""
        return [s.model for s in self.slices]

    @property
    def width(self) -> int:
        """Rows of each slice's buffer."""
        return self.slices[0].width

    def rows(self, rows: Tensor) -> Tensor:
        """Of `[K, S]` the row of each slice's model: a view where that is possible."""
        first, last = self.models[0], self.models[-1]
        if first == last:
            return rows[first].expand(len(self.slices), -1)
        if self.whole:
            return rows[first : last + 1]
        return rows[self.models]

    @property
    def whole(self) -> bool:
        """Whether its models follow one another."""
        return self.models == list(range(self.models[0], self.models[0] + len(self.slices)))

    def inputs(self, samples: Sequence[Samples], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x `[L, B, ...]` and y `[L, B]`, zeros beyond a slice's count."""
        parts = [samples[s.model].take(slice(s.start, s.start + s.count)) for s in self.slices]
        given = [part.inputs(dtype) for part in parts]
        lead = len(parts), self.width
        x, y = given[0].new_zeros(*lead, *given[0].shape[1:]), parts[0].y.new_zeros(lead)
        for n, (own, part) in enumerate(zip(given, parts, strict=True)):
            x[n, : len(own)], y[n, : len(own)] = own, part.y
        return x, y


def width_of(count: int, batch: int) -> int:
    """Rows of the buffer for so many samples: 16 widths between powers of two, in steps of 2 on.

    Rows to spare cost as much as samples do; every width makes chunks of its own.
    """
    step = max(2, 1 << max(0, (count - 1).bit_length() - 5))
    return min(max(LEAST, -(-count // step) * step), max(batch, LEAST))


def chunks_of(counts: Sequence[int], batch: int, most: int) -> list[Chunk]:
    """Chunks of at most `most` slices of models with so many samples.

    A model's slices are in order: it is the order of their sum.
    """
    slices = [
        Slice(k, start, count, width_of(count, batch))
        for k, n in enumerate(counts)
        for start in range(0, n, batch)
        for count in [min(batch, n - start)]
    ]
    return [Chunk(part) for part in _parts(slices, most)]


def _parts(slices: list[Slice], most: int) -> Iterator[tuple[Slice, ...]]:
    alone = len({s.model for s in slices}) == 1

    def place(s: Slice) -> tuple[int, int, int]:
        return -s.width if alone else s.start, s.width, s.start

    slices.sort(key=lambda s: (*place(s)[:2], s.start, s.model))
    for _, group in groupby(slices, key=lambda s: place(s)[: 1 if alone else 2]):
        found = tuple(group)
        for at in range(0, len(found), most):
            yield found[at : at + most]
