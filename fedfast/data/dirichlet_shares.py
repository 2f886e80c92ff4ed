"""Partitions whose clients differ by shares of the classes drawn from Dirichlet distributions."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch

from .._messages import format_value
from ..validation.values import Number, boolean, integer
from ._assign import assign_classes, class_counts, cut, draw_cuts, shuffle, split_by_cuts, stacks_of
from ._beside import Beside
from ._checks import check_number, checked_samples, labels_of
from ._fixed_sizes import client_sizes, draw_by_prior
from ._priors import DrawnPriors
from .client_parts import ClientParts, ends
from .federated import FederatedData
from .registries import PARTITIONS, Population, Refill, Spread
from .samples import Samples, as_samples

Alpha = Annotated[float, Number(gt=0), "concentration: small = few classes per client"]


@PARTITIONS.register("dirichlet")
def dirichlet(
    samples: object,
    clients: Population,
    alpha: Alpha,
    seed: int = 0,
    min_size: Annotated[int, Number(ge=0), "samples every client has at least"] = 1,
    test: object = None,
) -> FederatedData:
    """Class by class, shares ~ Dirichlet(alpha, ..., alpha) over the clients.

    alpha     small: few classes per client and unequal sizes; large: alike clients
    min_size  redraw until every client has at least so many samples (0: take the first draw)
    test      samples that are split by the same shares into each client's own test part
    The shuffled samples of a class are cut at the cumulative shares. Raises ValueError when no draw
    of a bounded number gives every client `min_size` samples.
    Sources: Hsu, Qi and Brown 2019; the course report PA4 (per class, train and test alike).
    """
    pool, rng = checked_samples(samples, clients, seed)
    check_number("alpha", alpha, above=True)
    integer("min_size", min_size)
    if min_size < 0 or min_size * clients > len(pool):
        raise ValueError(
            f"min_size: expected 0 <= min_size and at most {len(pool)} samples / {clients} clients;"
            f" got {format_value(min_size)}"
        )
    counts = class_counts(pool)
    labels = labels_of(pool)
    with Beside() as beside:
        stacks = beside.start(stacks_of, labels, counts, len(pool))
        cuts, shares = draw_cuts(rng, counts, clients, alpha, min_size, test is not None)
    data = FederatedData._of(pool, *split_by_cuts(rng, labels, cuts, stacks.result()))
    return data if test is None else data.with_test(_split(rng, test, shares))


def _split(rng: np.random.Generator, test: object, shares: list[np.ndarray]) -> ClientParts:
    """`test` cut by each class's shares of the train part: a part per client."""
    pool = as_samples(test, "test")
    counts = class_counts(pool)
    if counts.size > len(shares):
        raise ValueError(
            f"test.y: expected labels below {len(shares)}, those of samples; "
            f"got {int(pool.y.max())}"
        )
    counts = np.bincount(pool.y.cpu().numpy(), minlength=len(shares))
    cuts = [cut(own, count) for own, count in zip(shares, counts.tolist(), strict=True)]
    labels = labels_of(pool)
    rows, sizes = split_by_cuts(rng, labels, cuts, stacks_of(labels, counts, len(pool)))
    return ClientParts(pool.take(torch.from_numpy(rows)), ends(sizes))


@PARTITIONS.register("dirichlet-equal")
def dirichlet_equal(
    samples: object,
    clients: Population,
    alpha: Alpha,
    seed: int = 0,
    sigma: Spread = 0.0,
    refill: Refill = False,
    starve: Annotated[bool, "deal class 0 last, as FedFSA's code does"] = False,
) -> FederatedData:
    """Equal amounts; each client's class prior ~ Dirichlet(alpha, ..., alpha), one per class.

    Again and again a random client that is not full draws a class from its prior and takes the next
    image of that class; a class that has run out leaves every prior. Each client gets
    floor(n / clients) samples, the rest go unused.

    sigma   > 0: log-normal amounts instead, shares exp(sigma z) of all samples
    refill  a class that has run out begins anew, so that some images are used again and others
            never: what the FL-Simulator code does
    starve  a client draws class 0 only when all other classes of its prior have run out: what the
            FedFSA code does
    Source: Acar et al. 2021 (FedDyn) and the codes that follow it.
    """
    pool, rng = checked_samples(samples, clients, seed)
    check_number("alpha", alpha, above=True)
    check_number("sigma", sigma)
    boolean("refill", refill)
    boolean("starve", starve)
    counts, labels = class_counts(pool), labels_of(pool)
    size = len(pool) if sigma else len(pool) // clients * clients
    with Beside() as beside:
        stacks = beside.start(stacks_of, labels, counts, size)
        prior = DrawnPriors(rng, np.full(counts.size, alpha), clients)
        sizes = client_sizes(rng, len(pool), clients, sigma)
    drawn = draw_by_prior(rng, labels, prior, sizes, True, refill, starve, stacks.result())
    return FederatedData._of(pool, *drawn)


@PARTITIONS.register("hsu")
def hsu(
    samples: object,
    clients: Population,
    alpha: Annotated[float, Number(ge=0), "concentration; 0 = exactly one class per client"],
    seed: int = 0,
) -> FederatedData:
    """Equal amounts; each client's class prior ~ Dirichlet(alpha p), p the classes' shares in all.

    Client after client draws its floor(n / clients) classes from its prior and takes the next image
    of each; a class that has run out leaves the priors. alpha = 0: exactly one class per client,
    classes distributed evenly. The sum of alpha p is alpha, so that clients have far fewer classes
    than with `dirichlet_equal` of the same alpha.

    Source: Hsu, Qi and Brown 2019; the partitions of FedSAM and FedGloSS.
    """
    pool, rng = checked_samples(samples, clients, seed)
    check_number("alpha", alpha)
    counts = class_counts(pool)
    if alpha == 0:
        return FederatedData._of(pool, *_one_class(rng, pool, counts, clients))
    labels = labels_of(pool)
    with Beside() as beside:
        stacks = beside.start(stacks_of, labels, counts, len(pool) // clients * clients)
        prior = DrawnPriors(rng, alpha * counts / len(pool), clients)
    sizes = client_sizes(rng, len(pool), clients, 0.0)
    drawn = draw_by_prior(rng, labels, prior, sizes, False, stacks=stacks.result())
    return FederatedData._of(pool, *drawn)


def _one_class(
    rng: np.random.Generator, pool: Samples, counts: np.ndarray, clients: int
) -> tuple[np.ndarray, np.ndarray]:
    """One class per client and as many samples for each: what the scarcest class allows."""
    holds = assign_classes(rng, counts, clients, 1)
    holders = holds.sum(axis=1, dtype=np.int64)
    each = min(len(pool) // clients, int((counts[holders > 0] // holders[holders > 0]).min()))
    if each == 0:
        c = np.argmax(holders > counts)
        raise ValueError(
            f"clients: class {c} has {counts[c]} samples for {holders[c]} clients; use fewer"
        )
    labels, order = labels_of(pool), np.empty((clients, each), dtype=np.int64)
    for c in np.flatnonzero(holders):
        rows = np.flatnonzero(labels == c)
        shuffle(rng, rows)
        order[holds[c] == 1] = rows[: holders[c] * each].reshape(-1, each)
    return order.reshape(-1), np.full(clients, each)
