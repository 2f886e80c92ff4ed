"""The sequential parts of partitions, in C++: draws of a numpy Generator, the same as in Python.

No operations: they work on numpy's arrays, once, before a run. `AVAILABLE` says whether the module
is there; without it `fedfast.data` has loops that return the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import native
from .threads import threads

AVAILABLE = hasattr(native.module, "deal")
HIDDEN = np.uint32(1 << 31)  # what no number >= 0 begins with
MOST = 1 << 31  # samples, clients and classes that are numbered by 32 bits

Ints = NDArray[np.int64]
Rng = np.random.Generator


def shuffle(rng: Rng, values: NDArray[np.int32] | Ints) -> None:
    """`rng.shuffle(values)`, of contiguous int32 or int64 `[n]`."""
    narrow = values.dtype == np.int32
    native.module.shuffle(threads(), _capsule(rng), values.size, values.ctypes.data, narrow)


class Room:
    """An index of `size` rows while it is made, in the memory that it will have.

    order   int32 [size], the lower half: rows of every client, one after another
    stacks  int32 [samples], the upper half: the samples of every class, one after another
    """

    def __init__(self, size: int, samples: int) -> None:
        self._memory = np.empty(max(size, -(-(size + samples) // 2)), dtype=np.int64)
        narrow = self._memory.view(np.int32)
        self.order, self.stacks = narrow[:size], narrow[size : size + samples]

    def index(self) -> Ints:
        """`order` in 64 bits. The room is gone."""
        native.module.widen(self.order.size, self._memory.ctypes.data)
        return self._memory[: self.order.size]


def sort_by_class(labels: Ints, first: Ints, stacks: NDArray[np.int32]) -> None:
    """stacks[first[c]:first[c + 1]] become the samples with label c, in order."""
    given = np.ascontiguousarray(labels)
    addresses = [part.ctypes.data for part in (given, first, stacks)]
    native.module.sort_by_class(given.size, first.size - 1, *addresses)


def cut(shares: NDArray[np.float64], count: int) -> NDArray[np.uint32]:
    """How many of `count` samples each client gets by its share [N]: see `fedfast.data._assign`."""
    given, sizes = np.ascontiguousarray(shares), np.empty(shares.size, dtype=np.uint32)
    native.module.cut(given.size, given.ctypes.data, count, sizes.ctypes.data)
    return sizes


def place(
    counts: NDArray[np.integer], rows: NDArray[np.int32], at: Ints, order: NDArray[np.int32]
) -> None:
    """The next counts[i] of `rows` to order[at[i]:] for each client i; `at` moves past them.

    counts  unsigned, of 8, 16 or 32 bits
    """
    run = getattr(native.module, f"place{8 * counts.itemsize}")
    run(threads(), counts.size, *(part.ctypes.data for part in (counts, rows, at, order)))


class Shares:
    """Priors [N, C] in half of their bits, for draws that those nearly always decide.

    upper  uint32 [N, C], the upper halves of float64; HIDDEN where that is 0 and the number is not
    exact  a client's prior [C], float64
    """

    def __init__(
        self, upper: NDArray[np.uint32], exact: Callable[[int], NDArray[np.float64]]
    ) -> None:
        self.upper, self.exact = upper, exact

    def address(self, client: int) -> int:
        """Of the client's prior, until the next is asked for."""
        self._prior = np.ascontiguousarray(self.exact(client))
        return self._prior.ctypes.data


def upper_halves(values: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Of each number >= 0, for `Shares`."""
    bits = values.view(np.uint64)
    upper = (bits >> np.uint64(32)).astype(np.uint32)
    upper[(upper == 0) & (bits != 0)] = HIDDEN
    return upper


def deal(
    prior: Shares | NDArray[np.uint64],
    sizes: Ints,
    room: Room,
    first: Ints,
    draws: Rng,
    turns: Rng | None,
    again: Rng | None,
    starve: bool,
) -> None:
    """Rows of every client into `room.order`, see `draw_by_prior`.

    prior    each client's shares of the classes; or uint64 [N]: those of which bits are set, all
             alike
    sizes    [N], rows of each client
    room     the shuffled samples of class c at stacks[first[c]:first[c + 1]], taken from the end
    draws, turns, again  generators that say which class, whose turn (None: client after client),
             and what is drawn again where an exhausted class begins anew (None: it does not)
    """
    shares = prior if isinstance(prior, Shares) else None
    of = np.ascontiguousarray(prior.upper if isinstance(prior, Shares) else prior)
    of_prior = (of.ctypes.data, 0) if shares else (0, of.ctypes.data)
    given = [np.ascontiguousarray(part) for part in (sizes, room.stacks, first, room.order)]
    # NumPy's large arrays have huge pages, which clients in random order need.
    turn = len(of) if turns is not None else 0
    work = np.empty((turn, 2), dtype=np.int32), np.empty(turn, dtype=np.int32)
    addresses = [*of_prior, *(part.ctypes.data for part in (*given, *work))]
    others = [None if rng is None else _capsule(rng) for rng in (turns, again)]
    counts = [len(of), first.size - 1, room.order.size]
    exact = shares.address if shares else None
    native.module.deal(counts, addresses, _capsule(draws), *others, starve, exact, threads())


def choose_each(rng: Rng, clients: int, classes: int, each: int) -> NDArray[np.int32]:
    """`rng.choice(classes, each, replace=False)` for one client after another: `[N, each]`."""
    chosen = np.empty((clients, each), dtype=np.int32)
    native.module.choose_each(_capsule(rng), clients, classes, each, chosen.ctypes.data)
    return chosen


def spread_classes(rng: Rng, order: Ints, classes: int, each: int) -> NDArray[np.uint8]:
    """Ones `[classes, N]` where a client has a class, as `assign_classes` deals them.

    order  [N], the clients in their turn
    """
    has = np.zeros((classes, order.size), dtype=np.uint8)
    addresses = order.ctypes.data, has.ctypes.data
    native.module.spread_classes(_capsule(rng), order.size, classes, each, *addresses)
    return has


def _capsule(rng: Rng) -> object:
    return rng.bit_generator.capsule
