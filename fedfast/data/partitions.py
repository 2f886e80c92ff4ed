"""Partitions: a pooled data set split over clients, every sample used exactly once."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np

from .._names import check_options, unknown
from ..random import check_seed
from ._deal import assign, class_counts, deal, draw_shares
from .federated import FederatedData
from .samples import Samples, as_samples


def iid(samples: Any, clients: int, seed: int = 0) -> FederatedData:
    """Shuffled and cut into `clients` parts whose sizes differ by at most one."""
    bank, rng = _start(samples, clients, seed)
    return FederatedData.from_index(bank, np.array_split(rng.permutation(len(bank)), clients))


def dirichlet(
    samples: Any,
    clients: int,
    alpha: float,
    seed: int = 0,
    min_size: int = 1,
    test: Any = None,
) -> FederatedData:
    """Class by class, shares ~ Dirichlet(alpha, ..., alpha) over the clients.

    alpha     small: few classes per client and unequal sizes; large: alike clients
    min_size  redraw until every client has at least so many samples (0: take the first draw)
    test      samples that are split by the same shares into each client's own test part
    The shuffled samples of a class are cut at the cumulative shares. Raises ValueError when no draw
    of a bounded number gives every client `min_size` samples.
    Sources: Hsu, Qi and Brown 2019; the course report PA4 (per class, train and test alike).
    """
    bank, rng = _start(samples, clients, seed)
    if not isfinite(alpha) or alpha <= 0:
        raise ValueError(f"alpha: expected a finite number > 0 (see iid for equal); got {alpha}")
    if min_size < 0 or min_size * clients > len(bank):
        raise ValueError(
            f"min_size: expected 0 <= min_size and at most {len(bank)} samples / {clients} clients;"
            f" got {min_size}"
        )
    shares = draw_shares(rng, class_counts(bank), clients, alpha, min_size)
    data = FederatedData.from_index(bank, deal(rng, bank, shares))
    return data if test is None else data.with_test(_split(rng, test, shares))


def shards(samples: Any, clients: int, classes_per_client: int, seed: int = 0) -> FederatedData:
    """Pathological: every client has samples of exactly `classes_per_client` classes.

    Classes are dealt evenly (each to as many clients as any other, give or take one) and a class is
    cut evenly among its holders. Raises ValueError where that cannot be done.
    Source: the label-skew of McMahan et al. 2017, with distinct classes as in FedFSA.
    """
    bank, rng = _start(samples, clients, seed)
    counts = class_counts(bank)
    present = np.flatnonzero(counts)
    if not 1 <= classes_per_client <= present.size:
        raise ValueError(
            f"classes_per_client: expected 1 to {present.size} classes; got {classes_per_client}"
        )
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


_PARTITIONS: dict[str, Callable[..., FederatedData]] = {
    "dirichlet": dirichlet,
    "iid": iid,
    "shards": shards,
}


def partition(name: str, samples: Any, **options: Any) -> FederatedData:
    """The partition called `name` ("iid", "dirichlet", "shards") with its options."""
    if name not in _PARTITIONS:
        raise unknown("partition", name, _PARTITIONS)
    check_options(name, _PARTITIONS[name], options, own=("samples",))
    return _PARTITIONS[name](samples, **options)


def _start(samples: Any, clients: int, seed: int) -> tuple[Samples, np.random.Generator]:
    bank = as_samples(samples, "samples")
    if not 1 <= clients <= len(bank):
        raise ValueError(f"clients: expected 1 <= clients <= {len(bank)} samples; got {clients}")
    return bank, np.random.Generator(np.random.Philox(check_seed(seed)))


def _split(rng: np.random.Generator, test: Any, shares: np.ndarray) -> list[Samples]:
    """`test` cut by the shares `[classes, clients]` of the train part: one per client."""
    bank = as_samples(test, "test")
    if class_counts(bank).size > shares.shape[0]:
        raise ValueError(
            f"test.y: expected labels below {shares.shape[0]}, those of samples; "
            f"got {int(bank.y.max())}"
        )
    return [bank.take(rows) for rows in deal(rng, bank, shares)]
