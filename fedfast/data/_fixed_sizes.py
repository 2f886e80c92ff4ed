"""Sizes fixed per client, classes drawn from each client's own prior until they run out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..random import Ints

Floats = NDArray[np.float64]


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
) -> list[Ints]:
    """Rows of each client: so many draws of a class from its prior, each the next of that class.

    prior       [N, classes], each client's shares; a class that is exhausted leaves every prior
    refill      an exhausted class begins anew when it is drawn, and the draw is repeated
    starve      class 0 is drawn by clients whose other classes are all exhausted, and only by them
    one_by_one  a random client that is not full draws next; else client after client
    """
    left = np.bincount(labels, minlength=prior.shape[1])
    stacks = [rng.permutation(np.flatnonzero(labels == c)) for c in range(left.size)]
    prior = _without(prior, left)
    reach = np.cumsum(prior, axis=1)
    rows: list[list[int]] = [[] for _ in sizes]
    in_turn = np.repeat(np.arange(sizes.size), sizes).tolist()
    turns = _turns(rng, sizes) if one_by_one else iter(in_turn)
    for i, draw in zip(turns, rng.random(int(sizes.sum())), strict=True):
        c = _class(reach[i], draw, starve)
        while left[c] == 0:
            left[c] = len(stacks[c])
            c = _class(reach[i], rng.random(), starve)
        left[c] -= 1
        rows[i].append(int(stacks[c][left[c]]))
        if left[c] == 0 and left.any() and not refill:
            prior = _without(prior, left)
            reach = np.cumsum(prior, axis=1)
    return [np.array(own, dtype=np.int64) for own in rows]


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
