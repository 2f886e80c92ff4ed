"""What one program of a launch does in an order that its threads need not keep.

Its threads run side by side, and Triton gives the elements of every tile to them as it likes. What
a load reads is read before a store of a value that follows from it; everything else only a barrier
orders. So without one between them it is an error if a program

- reads what it has written;
- writes what it has read more than once, or as another element of a tile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Access(NamedTuple):
    """Of one load or store.

    pointers, mask  of all elements of the tile, and which of them are touched
    low, high       of those, the least and the largest
    """

    pointers: np.ndarray
    mask: np.ndarray
    low: int
    high: int

    def meets(self, other: Access) -> np.ndarray | None:
        """Which of this one's elements the other touches, as a mask of its tile; None: none."""
        if self.high < other.low or other.high < self.low:
            return None
        met = self.mask & np.isin(self.pointers, other.pointers[other.mask])
        return met if met.any() else None

    def same(self, other: Access) -> np.ndarray | bool:
        """Whether an element of the other's tile has the same address: a mask of this one's."""
        return self.pointers.shape == other.pointers.shape and self.pointers == other.pointers


class Program:
    """What a program has read and written since its last barrier."""

    def __init__(self) -> None:
        self.reads: list[Access] = []
        self.writes: list[Access] = []

    def barrier(self) -> None:
        """Whatever came before has happened."""
        self.reads.clear()
        self.writes.clear()

    def load(self, access: Access) -> int | None:
        """An address that is read too early; None where all is well."""
        self.reads.append(access)
        for write in self.writes:
            met = access.meets(write)
            if met is not None:
                return int(access.pointers[met][0])
        return None

    def store(self, access: Access) -> int | None:
        """An address that is written too early; None where all is well."""
        self.writes.append(access)
        times = np.zeros(access.pointers.shape, dtype=np.int64)
        for read in self.reads:
            met = access.meets(read)
            if met is not None:
                times += met + (met & ~np.asarray(access.same(read)))
        early = access.pointers[times > 1]
        return int(early[0]) if len(early) else None
