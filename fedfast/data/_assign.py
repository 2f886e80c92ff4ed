"""Arithmetic of the partitions class by class: shares, cuts, which client has which class."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..kernels import dealing
from ._beside import Beside
from .client_parts import ends, spans
from .samples import Samples

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Samples of one class that each client gets [N], in as few bits as they need.
Counts = NDArray[np.integer]

# Enough for any request met with a chance of a percent; a redraw costs a few milliseconds.
_ATTEMPTS = 1000
# Where each of the first draws leaves so many clients short, none of the others will do.
_HOPELESS, _SHORT = 4, 50
_LABELS = 1 << 17  # labels that are compared at once
_BLOCK = 1 << 14  # clients whose samples are placed at once


def class_counts(samples: Samples) -> Ints:
    """Samples of each class: int64 `[classes]`."""
    return np.bincount(samples.y.cpu().numpy())


def cut(shares: Floats, count: int) -> Counts:
    """How many of `count` samples each client gets by its share [N] of them."""
    made = (dealing.cut if dealing.AVAILABLE and count < dealing.MOST else _cut)(shares, count)
    return made.astype(np.min_scalar_type(int(made.max())))


def _cut(shares: Floats, count: int) -> Counts:
    # Shares like 1/3 add up to slightly less than 1 in floating point: 1e-9 keeps that from moving
    # a sample. The last client takes what is left, so that the sum of the shares does not matter.
    reached = np.cumsum(shares)[:-1]
    reached *= count
    reached += 1e-9
    np.minimum(np.floor(reached, out=reached), count, out=reached)
    return cast(Ints, np.diff(reached.astype(np.int64), prepend=0, append=count))


def draw_cuts(
    rng: np.random.Generator,
    counts: Ints,
    clients: int,
    alpha: float,
    min_size: int,
    keep: bool = False,
) -> tuple[list[Counts], list[Floats]]:
    """What each client gets of each class, so that all have at least `min_size` samples.

    keep  answer the shares [N] of every class too, for a test part that is cut alike
    """
    short: list[int] = []
    while len(short) < _ATTEMPTS and not (len(short) == _HOPELESS and min(short) > _SHORT):
        kept: list[Floats] = []
        # NumPy draws the shares of the next class while those of the last one are cut.
        with Beside() as beside:
            cutting = []
            for count in counts.tolist():
                shares = rng.dirichlet(np.full(clients, alpha))
                cutting.append(beside.start(cut, shares, count))
                if keep:
                    kept.append(shares)
            cuts = [made.result() for made in cutting]
        sizes = sum_of(cuts)
        short.append(int((sizes < min_size).sum()))
        if short[-1] == 0:
            return cuts, kept
    raise ValueError(
        f"alpha: {len(short)} draws with alpha {alpha} left some of the {clients} clients fewer "
        f"than min_size {min_size} samples; raise alpha, lower clients, or set min_size=0"
    )


def sum_of(cuts: Sequence[Counts]) -> Ints:
    """How many samples each client gets of all classes. [N]"""
    sizes = np.zeros(cuts[0].size, dtype=np.int64)
    for own in cuts:
        sizes += own
    return sizes


class Stacks(NamedTuple):
    """The samples of class c at room.stacks[first[c]:first[c + 1]], in order; first [C + 1]."""

    room: dealing.Room
    first: Ints

    def shuffle(self, rng: np.random.Generator) -> None:
        """Class after class."""
        for a, b in itertools.pairwise(self.first.tolist()):
            shuffle(rng, self.room.stacks[a:b])


def stacks_of(labels: Ints, counts: Ints, size: int) -> Stacks | None:
    """The samples of every class in the memory of an index of `size` rows; None without C++."""
    if not dealing.AVAILABLE or labels.size >= dealing.MOST:
        return None
    made = Stacks(dealing.Room(size, labels.size), ends(counts))
    dealing.sort_by_class(labels, made.first, made.room.stacks)
    return made


def split_by_cuts(
    rng: np.random.Generator, labels: Ints, cuts: Sequence[Counts], stacks: Stacks | None
) -> tuple[Ints, Ints]:
    """(rows, client after client, and how many each has): every class shuffled, then cut.

    stacks  of as many rows as there are samples
    """
    sizes = sum_of(cuts)
    at = ends(sizes)
    if stacks is not None:
        stacks.shuffle(rng)
        for c, own in enumerate(cuts):
            dealing.place(own, stacks.room.stacks[stacks.first[c] :], at, stacks.room.order)
        return stacks.room.index(), sizes
    return _split_in_numpy(rng, labels, cuts, at), sizes


def _split_in_numpy(
    rng: np.random.Generator, labels: Ints, cuts: Sequence[Counts], at: Ints
) -> Ints:
    order, at = np.empty(int(at[-1]), dtype=np.int64), at[:-1]
    small = labels.astype(np.min_scalar_type(len(cuts)))
    for c, own in enumerate(cuts):
        rows = rows_of_class(small, c)
        shuffle(rng, rows)
        for a in range(0, own.size, _BLOCK):
            many = own[a : a + _BLOCK].astype(np.int64)
            to = spans(at[a : a + _BLOCK], many)
            order[to] = rows[: to.size]
            rows = rows[to.size :]
        at += own
    return order


def rows_of_class(labels: Counts, c: int) -> NDArray[np.int32] | Ints:
    """The samples with label `c`, in order."""
    kind = np.int32 if labels.size < dealing.MOST else np.int64
    starts, at = range(0, labels.size, _LABELS), 0
    many = sum(np.count_nonzero(labels[a : a + _LABELS] == c) for a in starts)
    rows = np.empty(many, dtype=kind)
    for a in starts:
        found = np.flatnonzero(labels[a : a + _LABELS] == c)
        np.add(found, a, out=rows[at : at + found.size], casting="same_kind")
        at += found.size
    return rows


def shuffle(rng: np.random.Generator, values: NDArray[np.int32] | Ints) -> None:
    """`rng.shuffle`, several times faster where memory is what it waits for."""
    (dealing.shuffle if dealing.AVAILABLE else _shuffle)(rng, values)


def _shuffle(rng: np.random.Generator, values: NDArray[np.int32] | Ints) -> None:
    rng.shuffle(values)


def assign_classes(
    rng: np.random.Generator, counts: Ints, clients: int, each: int
) -> NDArray[np.uint8]:
    """Which client has which class, `[classes, clients]` of 0 and 1; empty classes go to none."""
    present = np.flatnonzero(counts)
    has = np.zeros((counts.size, clients), dtype=np.uint8)
    make = dealing.spread_classes if dealing.AVAILABLE else _spread_classes
    has[present] = make(rng, rng.permutation(clients), present.size, each)
    return has


def _spread_classes(
    rng: np.random.Generator, order: Iterable[int], classes: int, each: int
) -> NDArray[np.uint8]:
    """The loop of `dealing.spread_classes` in Python."""
    turns = np.fromiter(order, dtype=np.int64)
    has, holders = np.zeros((classes, turns.size), dtype=np.uint8), np.zeros(classes)
    for client in turns:
        # The classes that the fewest clients have so far; ties at random.
        chosen = np.lexsort((rng.random(classes), holders))[:each]
        holders[chosen] += 1
        has[chosen, client] = 1
    return has
