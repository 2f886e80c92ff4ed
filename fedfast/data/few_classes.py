"""Partitions whose clients have a few classes each."""

from __future__ import annotations

import numpy as np

from ..kernels import dealing
from ..validation.values import boolean
from ._assign import assign_classes, class_counts, cut, split_by_cuts, stacks_of
from ._beside import Beside
from ._checks import check_classes_per_client, checked_samples, labels_of
from ._fixed_sizes import client_sizes, draw_by_prior
from .federated import FederatedData
from .registries import PARTITIONS, Classes, Population, Refill

BITS = 64  # of the number that says which classes a client has
FLOYD = 10_000  # of more classes numpy chooses in another way


@PARTITIONS.register("shards")
def shards(
    samples: object, clients: Population, classes_per_client: Classes, seed: int = 0
) -> FederatedData:
    """Pathological: every client has samples of exactly `classes_per_client` classes.

    Classes are distributed evenly (each to as many clients as any other, give or take one) and a
    class is cut evenly among its clients. Raises ValueError where that cannot be done.
    Source: the label-skew of McMahan et al. 2017, with distinct classes as in FedFSA.
    """
    pool, rng = checked_samples(samples, clients, seed)
    counts = class_counts(pool)
    present = np.flatnonzero(counts)
    check_classes_per_client(present.size, classes_per_client)
    if clients * classes_per_client < present.size:
        raise ValueError(
            f"clients: {clients} clients of {classes_per_client} classes cannot hold all "
            f"{present.size}; raise clients or classes_per_client"
        )
    labels = labels_of(pool)
    with Beside() as beside:
        stacks = beside.start(stacks_of, labels, counts, len(pool))
        cuts = _even_cuts(assign_classes(rng, counts, clients, classes_per_client), counts)
    return FederatedData._of(pool, *split_by_cuts(rng, labels, cuts, stacks.result()))


def _even_cuts(holds: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """What each client gets of each class that it holds, `[classes, clients]` of 0 and 1."""
    holders = holds.sum(axis=1, dtype=np.int64)
    short = np.flatnonzero(holders > counts)
    if short.size:
        c = short[0]
        raise ValueError(
            f"clients: class {c} has {counts[c]} samples for {holders[c]} clients; use fewer"
        )
    many = zip(holds, np.maximum(1, holders), counts.tolist(), strict=True)
    return [cut(own / n, count) for own, n, count in many]


@PARTITIONS.register("pathological")
def pathological(
    samples: object,
    clients: Population,
    classes_per_client: Classes,
    seed: int = 0,
    refill: Refill = False,
) -> FederatedData:
    """Equal amounts; each client draws from `classes_per_client` classes of its own, all alike.

    Which ones is drawn for each client alone, uniformly, so that some classes may have many clients
    and others none. Samples are then drawn as by `dirichlet_equal`, floor(n / clients) to each: a
    class that has run out leaves every prior, and a client all whose classes have takes of what is
    left, so that it may have more classes in the end. See `shards` for exact numbers of classes.

    refill  a class that has run out begins anew: nobody has other classes than its own, some
            images are used again and others never
    Source: the pathological split of the FL-Simulator code, which refills.
    """
    pool, rng = checked_samples(samples, clients, seed)
    counts = class_counts(pool)
    present = np.flatnonzero(counts)
    check_classes_per_client(present.size, classes_per_client)
    boolean("refill", refill)
    labels = labels_of(pool)
    with Beside() as beside:
        stacks = beside.start(stacks_of, labels, counts, len(pool) // clients * clients)
        chosen = _choose_each(rng, clients, present.size, classes_per_client)
        prior = _owned(present, chosen) if counts.size <= BITS else _alike(present, chosen)
        sizes = client_sizes(rng, len(pool), clients, 0.0)
    drawn = draw_by_prior(rng, labels, prior, sizes, True, refill, stacks=stacks.result())
    return FederatedData._of(pool, *drawn)


def _owned(present: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Bits of the classes present[chosen[i]] that each client draws from: uint64 [N]."""
    bits = np.uint64(1) << present.astype(np.uint64)
    made = np.zeros(len(chosen), dtype=np.uint64)
    for one in chosen.T:
        made |= bits[one]
    return made


def _alike(present: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The same as priors [N, classes]."""
    prior = np.zeros((len(chosen), present[-1] + 1))
    np.put_along_axis(prior, present[chosen], 1 / chosen.shape[1], axis=1)
    return prior


def _choose_each(rng: np.random.Generator, clients: int, classes: int, each: int) -> np.ndarray:
    """Different classes for each client, as `Generator.choice` draws them: `[clients, each]`."""
    if dealing.AVAILABLE and classes <= FLOYD:
        return dealing.choose_each(rng, clients, classes, each)
    return np.stack([rng.choice(classes, each, replace=False) for _ in range(clients)])
