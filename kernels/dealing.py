"""The sequential parts of partitions, in C++: draws of a numpy Generator, the same as in Python.

No operations: they work on numpy's arrays, once, before a run. `AVAILABLE` says whether the module
is there; without it `fedfast.data` has loops that return the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import native

AVAILABLE = hasattr(native.module, "deal")
MOST = 1 << 31  # samples, clients and classes that are numbered by 32 bits

Ints = NDArray[np.int64]
Rng = np.random.Generator


def shuffle(rng: Rng, values: NDArray[np.int32] | Ints) -> None:
    """`rng.shuffle(values)`, of contiguous int32 or int64 `[n]`."""
    narrow = values.dtype == np.int32
    native.module.shuffle(_capsule(rng), values.size, values.ctypes.data, narrow)


def deal(
    prior: NDArray[np.float64],
    offsets: Ints,
    stacks: NDArray[np.int32],
    first: Ints,
    draws: Rng,
    turns: Rng | None,
    again: Rng | None,
    starve: bool,
) -> Ints:
    """Rows of every client, one after another: int64 `[offsets[N]]`, see `draw_by_prior`.

    prior    [N, C], each client's shares of the classes
    offsets  [N + 1], where each client's rows begin
    stacks   the shuffled samples of class c at first[c]:first[c + 1], taken from the end
    draws, turns, again  generators that say which class, whose turn (None: client after client),
             and what is drawn again where an exhausted class begins anew (None: it does not)
    """
    order = np.empty(int(offsets[-1]), dtype=np.int64)
    given = [np.ascontiguousarray(part) for part in (prior, offsets, stacks, first)]
    addresses = [part.ctypes.data for part in (*given, order)]
    others = [None if rng is None else _capsule(rng) for rng in (turns, again)]
    native.module.deal(list(prior.shape), addresses, _capsule(draws), *others, starve)
    return order


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
