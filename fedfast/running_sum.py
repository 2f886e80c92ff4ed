"""A cohort's sum on its way: nodes of the tree of additions that wait for their partner."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kernels import summation


class Place(NamedTuple):
    """Where a chunk lies: its first client's position among the `of` clients of the whole sum.

    begin  the position that the sums at hand begin with: not 0 where others add those before it
    """

    at: int
    of: int
    begin: int = 0


class RunningSum:
    """`lowest` [S] float64, which is the sum in the end, and the nodes above it between chunks.

    How many there are follows from places alone (`kernels/summation.py`); memory for those above
    the lowest is taken when they are first needed: a cohort in one chunk never has any.
    """

    def __init__(self, like: Tensor) -> None:
        self.lowest = torch.zeros(like.shape, dtype=torch.float64, device=like.device)
        self._above = self.lowest.new_empty(0, *like.shape)
        self._former = self.lowest.new_empty(0, *like.shape)

    def above(self, count: int, place: Place) -> Tensor | None:
        """The nodes above the lowest, with room for those that `count` clients there leave."""
        before, *_, after = self._order(count, place)
        needed = max(before, after) - 1
        self._above = _grown(self._above, needed)
        return self._above if needed > 0 else None

    def keep(self, count: int, place: Place) -> None:
        """Copy what adding `count` clients there will change, for `restore`."""
        if place.at == place.begin:  # nothing is there yet
            return
        nodes = self._changed(count, place)
        self._former = _grown(self._former, len(nodes))
        for node, copy in zip(nodes, self._former, strict=False):
            copy.copy_(node)

    def restore(self, count: int, place: Place) -> None:
        """Take back what has been added since `keep`."""
        for node, copy in zip(self._changed(count, place), self._former, strict=False):
            node.copy_(copy)

    def nodes(self, count: int) -> list[Tensor]:
        """The lowest nodes, so many of them."""
        return [self.lowest, *self._above][:count]

    def _changed(self, count: int, place: Place) -> list[Tensor]:
        order = self._order(count, place)
        if order[0] == 0:
            return []
        return self.nodes(order[0])[summation.touched(order) :]

    def _order(self, count: int, place: Place) -> tuple[int, ...]:
        return summation.order(count, *place, held=0)


def _grown(rows: Tensor, count: int) -> Tensor:
    """At least so many rows; those there are keep what they hold."""
    if len(rows) >= count:
        return rows
    grown = rows.new_empty(count, *rows.shape[1:])
    grown[: len(rows)] = rows
    return grown
