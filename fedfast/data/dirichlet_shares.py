"""Partitions whose clients differ by shares of the classes drawn from Dirichlet distributions."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import numpy as np

from .._messages import format_value
from ..validation.values import boolean, integer
from ._assign import assign_classes, class_counts, draw_shares, split_by_shares
from ._checks import at_least_zero, checked_samples, labels_of, positive
from ._fixed_sizes import client_sizes, draw_by_prior
from .federated import FederatedData
from .registries import PARTITIONS, Bound, Population, Refill, Spread
from .samples import Samples, as_samples

Alpha = Annotated[float, Bound(gt=0), "concentration: small = few classes per client"]


@PARTITIONS.register("dirichlet")
def dirichlet(
    samples: object,
    clients: Population,
    alpha: Alpha,
    seed: int = 0,
    min_size: Annotated[int, Bound(ge=0), "samples every client has at least"] = 1,
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
    positive("alpha", alpha)
    integer("min_size", min_size)
    if min_size < 0 or min_size * clients > len(pool):
        raise ValueError(
            f"min_size: expected 0 <= min_size and at most {len(pool)} samples / {clients} clients;"
            f" got {format_value(min_size)}"
        )
    shares = draw_shares(rng, class_counts(pool), clients, alpha, min_size)
    data = FederatedData.from_index(pool, split_by_shares(rng, pool, shares))
    return data if test is None else data.with_test(_split(rng, test, shares))


def _split(rng: np.random.Generator, test: object, shares: np.ndarray) -> list[Samples]:
    """`test` cut by the shares `[classes, clients]` of the train part: one per client."""
    pool = as_samples(test, "test")
    if class_counts(pool).size > shares.shape[0]:
        raise ValueError(
            f"test.y: expected labels below {shares.shape[0]}, those of samples; "
            f"got {int(pool.y.max())}"
        )
    return [pool.take(rows) for rows in split_by_shares(rng, pool, shares)]


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
    positive("alpha", alpha)
    at_least_zero("sigma", sigma)
    boolean("refill", refill)
    boolean("starve", starve)
    classes = class_counts(pool).size
    prior = rng.dirichlet(np.full(classes, alpha), size=clients)
    sizes = client_sizes(rng, len(pool), clients, sigma)
    rows = draw_by_prior(rng, labels_of(pool), prior, sizes, True, refill, starve)
    return FederatedData.from_index(pool, rows)


@PARTITIONS.register("hsu")
def hsu(
    samples: object,
    clients: Population,
    alpha: Annotated[float, Bound(ge=0), "concentration; 0 = exactly one class per client"],
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
    at_least_zero("alpha", alpha)
    counts = class_counts(pool)
    if alpha == 0:
        return FederatedData.from_index(pool, _one_class(rng, pool, counts, clients))
    present = np.flatnonzero(counts)
    prior = np.zeros((clients, counts.size))
    prior[:, present] = rng.dirichlet(alpha * counts[present] / len(pool), size=clients)
    sizes = client_sizes(rng, len(pool), clients, 0.0)
    return FederatedData.from_index(pool, draw_by_prior(rng, labels_of(pool), prior, sizes, False))


def _one_class(
    rng: np.random.Generator, pool: Samples, counts: np.ndarray, clients: int
) -> list[np.ndarray]:
    """One class per client and as many samples for each: what the scarcest class allows."""
    holds = assign_classes(rng, counts, clients, 1)
    holders = holds.sum(axis=1)
    each = min(len(pool) // clients, int((counts[holders > 0] // holders[holders > 0]).min()))
    if each == 0:
        c = int(np.argmax(holders > counts))
        raise ValueError(
            f"clients: class {c} has {counts[c]} samples for {holders[c]} clients; use fewer"
        )
    labels = labels_of(pool)
    stacks = {
        c: iter(rng.permutation(np.flatnonzero(labels == c))) for c in np.flatnonzero(holders)
    }
    owned = holds.argmax(axis=0)
    return [np.fromiter(islice(stacks[c], each), np.int64, each) for c in owned]
