"""Sums in an order that sizes alone decide: partial ones per program, then their totals."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .common import jit, launch, tl

FEW_SLOTS = 512  # up to so many partial sums are added by every program that needs their total


def slots(bank: Tensor, *shape: int) -> Tensor:
    """Float64 places for partial sums, each written by one program."""
    return torch.empty(shape, dtype=torch.float64, device=bank.device)


def few(partial: Tensor) -> Tensor:
    """`[K, n]` partial sums as they are while n is small, else their totals `[K, 1]`."""
    clients, count = partial.shape
    if count <= FEW_SLOTS:
        return partial
    out = slots(partial, clients, 1)
    launch(totals, clients, partial, partial, out, 1, count, num_warps=8)
    return out


class Squares(NamedTuple):
    """Partial sums of squares of what a launch writes: `slots` [K, places], its own from first."""

    slots: Tensor | None = None
    places: int = 0
    first: int = 0

    @classmethod
    def of(cls, bank: Tensor, places: int) -> Squares:
        """For so many programs of every client."""
        return cls(slots(bank, bank.shape[0], places), places)

    def add_up(self, out: Tensor | None) -> None:
        """out `[K]` = each client's sum of all places, in their order."""
        if self.slots is not None and out is not None:
            given = self.slots, out, out.stride(0), self.places
            launch(totals, out.shape[0], out, *given, num_warps=8)

    def behind(self, used: int) -> Squares:
        """The slots behind `used` of them."""
        return self._replace(first=self.first + used)


@jit
def squares(x: tl.tensor) -> tl.tensor:
    """Sum of squares of a block, in float64."""
    wide = x.to(tl.float64)
    return tl.sum(wide * wide, axis=0)


@jit
def store_squares(
    slots: tl.tuple, k: tl.tensor, place: tl.tensor, x: tl.tensor, mask: tl.tensor
) -> None:
    """In float64, the sum of squares of a tile or block x where mask, to a program's own slot.

    slots: (`[K, count]` or None, count, this launch's first); place: the program's
    """
    if slots[0] is not None:
        tl.debug_barrier()  # x goes where it came from: every thread has read before one writes
        wide = tl.where(mask, x, 0.0).to(tl.float64)
        tl.store(slots[0] + k * slots[1] + slots[2] + place, tl.sum(wide * wide))


@jit
def total(partial: tl.tensor, count: tl.tensor, LANES: tl.constexpr = 512) -> tl.tensor:
    """Sum of `count` float64 slots, in an order that `count` alone decides."""
    lanes = tl.arange(0, LANES)
    sums = tl.zeros((LANES,), tl.float64)
    for start in range(0, count, LANES):
        here = start + lanes
        sums += tl.load(partial + here, here < count, other=0.0)
    return tl.sum(sums, axis=0)


@jit(do_not_specialize=["stride", "count"])
def totals(partial: tl.tensor, out: tl.tensor, stride: tl.tensor, count: tl.tensor) -> None:
    """out [K] = the sum of each row of partial [K, count]; one program per client."""
    k = tl.program_id(0).to(tl.int64)
    tl.store(out + k * stride, total(partial + k * count, count, 4096))
