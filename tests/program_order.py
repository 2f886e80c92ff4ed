"""What one program of a launch does in an order that its threads need not keep.

Its threads run side by side, and Triton gives the elements of every tile to them as it likes, small
tiles to several threads each. An element is stored after that was loaded which its value follows
from, element by element; everything else only a barrier orders. So without one between them it is
an error if a program

- reads what it has written, or writes it again as another element of a tile;
- writes what it has read and makes use of, as another element of a tile, or as a value that does
  not follow from it;
- writes what each of several threads has read for itself, and makes other use of it.

What a branch depends on is not seen.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import NamedTuple

import numpy as np
from value_origins import Origins

_number = count()


class Access(NamedTuple):
    """Of one load or store.

    pointers, mask  of all elements of the tile, and which of them are touched
    low, high       of those, the least and the largest
    number          no other access of the process has it
    """

    pointers: np.ndarray
    mask: np.ndarray
    low: int
    high: int
    number: int

    def meets(self, other: Access) -> np.ndarray | None:
        """Which of this one's elements the other touches, as a mask of its tile; None: none."""
        if self.high < other.low or other.high < self.low:
            return None
        met = self.mask & np.isin(self.pointers, other.pointers[other.mask])
        return met if met.any() else None

    def same(self, other: Access) -> np.ndarray | bool:
        """Whether an element of the other's tile has the same address: a mask of this one's."""
        return self.pointers.shape == other.pointers.shape and self.pointers == other.pointers


def access(pointers: np.ndarray, mask: np.ndarray, touched: np.ndarray) -> Access | None:
    """`touched`: the addresses where the mask is; None where it is nowhere."""
    if not len(touched):
        return None
    return Access(pointers, mask, int(touched.min()), int(touched.max()), next(_number))


class Overwritten(NamedTuple):
    """A load whose elements were stored since, without a barrier.

    address  of one of them
    ordered  each was stored as a value that follows from it
    """

    load: Access
    address: int
    ordered: bool


class Program:
    """What a program of so many threads has read and written since its last barrier."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.reads: list[Access] = []
        self.writes: list[Access] = []
        self.overwritten: list[Overwritten] = []
        self.uses = Counter[int]()  # of a load, by stores

    def barrier(self) -> None:
        """Whatever came before has happened."""
        self.reads.clear()
        self.writes.clear()

    def load(self, load: Access) -> int | None:
        """An address that is read too early; None where all is well."""
        self.reads.append(load)
        for write in self.writes:
            met = load.meets(write)
            if met is not None:
                return int(load.pointers[met][0])
        return None

    def again(self, store: Access) -> int | None:
        """An address that two threads write, in the order they come in; None where all is well."""
        touched = np.sort(store.pointers[store.mask], axis=None)
        twice = touched[1:] == touched[:-1]
        if twice.any():
            return int(touched[1:][twice][0])
        for write in self.writes:
            met = store.meets(write)
            apart = None if met is None else met & ~np.asarray(store.same(write))
            if apart is not None and apart.any():
                return int(store.pointers[apart][0])
        self.writes.append(store)
        return None

    def store(self, store: Access, origins: Origins) -> None:
        """origins: of value, addresses and mask."""
        self.uses.update(origins.all)
        for read in self.reads:
            met = store.meets(read)
            if met is None:
                continue
            follows = read.number in origins.elements
            apart = met & ~np.asarray(store.same(read)) if follows else met
            at = store.pointers[apart if apart.any() else met][0]
            self.overwritten.append(Overwritten(read, int(at), not apart.any()))

    def early(self) -> int | None:
        """An address that was written too early, once the program is over."""
        for load, address, ordered in self.overwritten:
            copies = load.pointers.size < self.threads
            others = self.uses[load.number] - ordered
            if others and (copies or not ordered):
                return address
        return None
