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

    addresses  of all elements of the tile, -1 where it is masked
    low, high  of those that are not, the least and the largest
    """

    addresses: np.ndarray
    low: int
    high: int

    @classmethod
    def of(cls, pointers: np.ndarray, mask: np.ndarray) -> Access | None:
        """None: nothing is touched."""
        addresses = np.where(mask, pointers.astype(np.int64), -1)
        touched = addresses[addresses >= 0]
        return cls(addresses, int(touched.min()), int(touched.max())) if len(touched) else None

    def meets(self, other: Access) -> np.ndarray:
        """Which of this one's elements the other touches, as a mask of its tile."""
        if self.high < other.low or other.high < self.low:
            return np.zeros(self.addresses.shape, dtype=bool)
        return (self.addresses >= 0) & np.isin(self.addresses, other.addresses)


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
        return next((int(access.addresses[m][0]) for m in self._met(access, self.writes)), None)

    def store(self, access: Access) -> int | None:
        """An address that is written too early."""
        self.writes.append(access)
        times = np.zeros(access.addresses.shape, dtype=np.int64)
        for read in self.reads:
            met = access.meets(read)
            if met.any():
                times += met
                alike = read.addresses.shape == access.addresses.shape
                times += met & (read.addresses != access.addresses) if alike else met
        return int(access.addresses[times > 1][0]) if (times > 1).any() else None

    @staticmethod
    def _met(access: Access, others: list[Access]) -> list[np.ndarray]:
        return [met for met in map(access.meets, others) if met.any()]
