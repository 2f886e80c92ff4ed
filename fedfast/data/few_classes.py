"""Partitions whose clients hold a few classes each."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._assign import assign, class_counts, deal
from ._checks import flag, labels_of, some_of, start
from ._fixed_sizes import client_sizes, deal_by_prior
from .federated import FederatedData
from .registries import PARTITIONS, Classes, Population, Refill


@PARTITIONS.register("shards")
def shards(
    samples: Any, clients: Population, classes_per_client: Classes, seed: int = 0
) -> FederatedData:
    """Pathological: every client has samples of exactly `classes_per_client` classes.

    Classes are dealt evenly (each to as many clients as any other, give or take one) and a class is
    cut evenly among its holders. Raises ValueError where that cannot be done.
    Source: the label-skew of McMahan et al. 2017, with distinct classes as in FedFSA.
    """
    bank, rng = start(samples, clients, seed)
    counts = class_counts(bank)
    present = np.flatnonzero(counts)
    some_of(present.size, classes_per_client)
    if clients * classes_per_client < present.size:
        raise ValueError(
            f"clients: {clients} clients of {classes_per_client} classes cannot hold all "
            f"{present.size}; raise clients or classes_per_client"
        )
    holds = assign(rng, counts, clients, classes_per_client)
    short = np.flatnonzero(holds.sum(1) > counts)
    if short.size:
        c = short[0]
        raise ValueError(
            f"clients: class {c} has {counts[c]} samples for {holds[c].sum()} clients; use fewer"
        )
    shares = holds / np.maximum(1, holds.sum(1, keepdims=True))
    return FederatedData.from_index(bank, deal(rng, bank, shares))


@PARTITIONS.register("pathological")
def pathological(
    samples: Any,
    clients: Population,
    classes_per_client: Classes,
    seed: int = 0,
    refill: Refill = False,
) -> FederatedData:
    """Equal amounts; each client draws from `classes_per_client` classes of its own, all alike.

    Which ones is drawn for each client alone, uniformly, so that some classes may have many holders
    and others none. Samples are then dealt as by `dirichlet_equal`, floor(n / clients) to each: a
    class that has run out leaves every prior, and a client all whose classes have takes of what is
    left, so that it may hold more classes in the end. See `shards` for exact numbers of classes.

    refill  a class that has run out begins anew: nobody holds other classes than its own, some
            images are dealt again and others never
    Source: the pathological split of the FL-Simulator code, which refills.
    """
    bank, rng = start(samples, clients, seed)
    counts = class_counts(bank)
    present = np.flatnonzero(counts)
    some_of(present.size, classes_per_client)
    flag("refill", refill)
    prior = np.zeros((clients, counts.size))
    for own in prior:
        own[rng.choice(present, classes_per_client, replace=False)] = 1 / classes_per_client
    sizes = client_sizes(rng, len(bank), clients, 0.0)
    rows = deal_by_prior(rng, labels_of(bank), prior, sizes, True, refill)
    return FederatedData.from_index(bank, rows)
