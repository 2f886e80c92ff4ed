"""Sizes fixed per client, classes drawn from each client's own prior until they run out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..kernels import dealing
from ..random import Ints
from ._assign import Stacks, rows_of_class, shuffle, stacks_of
from ._priors import Bits, DrawnPriors, prior_of, shares_of
from .client_parts import ends

Floats = NDArray[np.float64]
_PER_BLOCK = 4  # numbers that Philox makes at once


def client_sizes(rng: np.random.Generator, total: int, clients: int, sigma: float) -> Ints:
    """Samples per client: all floor(total / clients), or log-normal shares of all of them, >= 1.

    Shares are exp(sigma z) over their sum; what is lost to rounding goes to the largest remainders.
    """
    if sigma == 0:
        return np.full(clients, total // clients, dtype=np.int64)
    raw = rng.lognormal(0.0, sigma, clients)
    exact = raw / raw.sum() * (total - clients)
    sizes = np.floor(exact).astype(np.int64)
    short = total - clients - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:short]] += 1
    return sizes + 1


def draw_by_prior(
    rng: np.random.Generator,
    labels: Ints,
    prior: DrawnPriors | Floats | Bits,
    sizes: Ints,
    one_by_one: bool,
    refill: bool = False,
    starve: bool = False,
    stacks: Stacks | None = None,
) -> tuple[Ints, Ints]:
    """(rows, client after client; `sizes`): draws of a class from each client's prior, each the
    next of that class.

    prior       each client's shares [N, classes], or uint64 [N]: those of which bits are set, all
                alike; a class that is exhausted leaves every prior
    refill      an exhausted class begins anew when it is drawn, and the draw is repeated
    starve      class 0 is drawn by clients whose other classes are all exhausted, and only by them
    one_by_one  a random client that is not full draws next; else client after client
    stacks      of sum(sizes) rows, if they have been sorted; their order changes
    """
    if not dealing.AVAILABLE or labels.size >= dealing.MOST:
        shares = prior_of(prior, int(labels.max()) + 1)
        own, first = _stacks(rng, labels, shares.shape[1])
        given = sizes, one_by_one, refill, starve
        return _drawn_in_python(rng, own, first, shares, *given), sizes
    kept = shares_of(prior)
    if stacks is None:
        classes = kept.upper.shape[1] if isinstance(kept, dealing.Shares) else 0
        counts = np.bincount(labels, minlength=classes)
        stacks = cast(Stacks, stacks_of(labels, counts, int(sizes.sum())))
    stacks.shuffle(rng)
    room, first = stacks
    # The loop draws all classes, then all turns, then what is repeated: as many streams.
    turns = _after(rng, room.order.size) if one_by_one else None
    again = _after(turns or rng, room.order.size) if refill else None
    dealing.deal(kept, sizes, room, first, rng, turns, again, starve)
    return room.index(), sizes


def _stacks(rng: np.random.Generator, labels: Ints, classes: int) -> tuple[NDArray[np.int32], Ints]:
    """The samples of every class, shuffled, and where each class begins."""
    first = ends(np.bincount(labels, minlength=classes))
    kind = np.int32 if labels.size < dealing.MOST else np.int64
    stacks, small = np.empty(labels.size, kind), labels.astype(np.min_scalar_type(classes))
    for c in range(first.size - 1):
        own = stacks[first[c] : first[c + 1]]
        own[:] = rows_of_class(small, c)
        shuffle(rng, own)
    return stacks, first


def _after(rng: np.random.Generator, draws: int) -> np.random.Generator:
    """Another generator, where this one will be after so many draws of `random`.

    Philox makes numbers by blocks of four, each from a counter of 256 bits (Salmon et al., 2011).
    """
    state = cast(np.random.Philox, rng.bit_generator).state
    held = _PER_BLOCK - int(state["buffer_pos"])
    if draws > held:
        blocks, draws = divmod(draws - held, _PER_BLOCK)
        count = int.from_bytes(state["state"]["counter"].astype("<u8").tobytes(), "little") + blocks
        words = (count % (1 << 256)).to_bytes(32, "little")
        state["state"]["counter"] = np.frombuffer(words, dtype="<u8").astype(np.uint64)
        state["buffer_pos"] = _PER_BLOCK
    bits = np.random.Philox()
    bits.state = state
    made = np.random.Generator(bits)
    made.random(draws)
    return made


def _drawn_in_python(
    rng: np.random.Generator,
    stacks: NDArray[np.int32],
    first: Ints,
    prior: Floats,
    sizes: Ints,
    one_by_one: bool,
    refill: bool,
    starve: bool,
) -> Ints:
    """The loop of `dealing.deal` in Python."""
    left, whole = np.diff(first), np.diff(first)
    prior = _without(prior, left)
    reach = np.cumsum(prior, axis=1)
    order, at = np.empty(int(sizes.sum()), dtype=np.int64), ends(sizes)[:-1].copy()
    in_turn = np.repeat(np.arange(sizes.size), sizes).tolist()
    turns = _turns(rng, sizes) if one_by_one else iter(in_turn)
    for i, draw in zip(turns, rng.random(order.size), strict=True):
        c = _class(reach[i], draw, starve)
        while left[c] == 0:
            left[c] = whole[c]
            c = _class(reach[i], rng.random(), starve)
        left[c] -= 1
        order[at[i]] = stacks[first[c] + left[c]]
        at[i] += 1
        if left[c] == 0 and left.any() and not refill:
            prior = _without(prior, left)
            reach = np.cumsum(prior, axis=1)
    return order


def _class(reach: Floats, draw: float, starve: bool) -> int:
    """The class whose interval of the cumulative prior contains `draw` in [0, 1).

    starve  the interval of class 0 is left out
    """
    total, low = reach[-1], reach[0] if starve else 0.0
    c = int(reach.searchsorted(low + draw * (total - low), side="right"))
    return c if c < reach.size else int(reach.searchsorted(total))  # rounded up to the end


def _without(prior: Floats, left: Ints) -> Floats:
    """The priors without exhausted classes; who has none left draws by what is left."""
    kept = np.where(left > 0, prior, 0.0)
    lost = kept.sum(axis=1) == 0
    kept[lost] = left
    return kept


def _turns(rng: np.random.Generator, sizes: Ints) -> Iterator[int]:
    """Which client draws next: each time any of those that are not full, all alike."""
    missing, waiting = sizes.tolist(), np.flatnonzero(sizes).tolist()
    for draw in rng.random(int(sizes.sum())).tolist():
        at = int(draw * len(waiting))
        i = waiting[at]
        missing[i] -= 1
        if missing[i] == 0:
            waiting[at] = waiting[-1]
            waiting.pop()
        yield i
