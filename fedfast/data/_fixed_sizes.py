"""Sizes fixed per client, classes drawn from each client's own prior until they run out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..kernels import dealing
from ..random import Ints
from ._assign import rows_of_class, shuffle
from .client_parts import ends

Floats = NDArray[np.float64]
_BLOCK = 1 << 20  # numbers that are drawn and thrown away at once


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
    prior: Floats,
    sizes: Ints,
    one_by_one: bool,
    refill: bool = False,
    starve: bool = False,
) -> tuple[Ints, Ints]:
    """(rows, client after client; `sizes`): draws of a class from each client's prior, each the
    next of that class.

    prior       [N, classes], each client's shares; a class that is exhausted leaves every prior
    refill      an exhausted class begins anew when it is drawn, and the draw is repeated
    starve      class 0 is drawn by clients whose other classes are all exhausted, and only by them
    one_by_one  a random client that is not full draws next; else client after client
    """
    stacks, first = _stacks(rng, labels, prior.shape[1])
    if not dealing.AVAILABLE or labels.size >= dealing.MOST:
        return _drawn_in_python(rng, stacks, first, prior, sizes, one_by_one, refill, starve), sizes
    # The loop draws all classes, then all turns, then what is repeated: as many streams.
    total = int(sizes.sum())
    turns = _after(rng, total) if one_by_one else None
    again = _after(turns or rng, total) if refill else None
    drawn = dealing.deal(prior, ends(sizes), stacks, first, rng, turns, again, starve)
    return drawn, sizes


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
    """Another generator, where this one will be after so many draws of `random`."""
    bits = np.random.Philox()
    bits.state = cast(np.random.Philox, rng.bit_generator).state
    made = np.random.Generator(bits)
    scratch = np.empty(min(draws, _BLOCK))
    for done in range(0, draws, _BLOCK):
        made.random(out=scratch[: min(_BLOCK, draws - done)])
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
