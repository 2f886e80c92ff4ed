"""Partitions: a pooled data set split over clients; no sample is used twice, unless asked for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from math import isfinite
from typing import Any

import numpy as np
import torch

from .._names import check_options, unknown
from ..random import check_seed
from ._deal import assign, class_counts, deal, draw_shares
from ._equal import client_sizes, deal_by_prior
from .federated import FederatedData
from .samples import Samples, as_samples


def iid(samples: Any, clients: int, seed: int = 0, sigma: float = 0.0) -> FederatedData:
    """Shuffled and cut into `clients` parts whose sizes differ by at most one.

    sigma  > 0: log-normal sizes instead, shares exp(sigma z) of all samples (the FedDyn code)
    """
    bank, rng = _start(samples, clients, seed)
    _at_least_zero("sigma", sigma)
    order = rng.permutation(len(bank))
    if sigma == 0:
        return FederatedData.from_index(bank, np.array_split(order, clients))
    sizes = client_sizes(rng, len(bank), clients, sigma)
    return FederatedData.from_index(bank, np.split(order, np.cumsum(sizes)[:-1]))


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


def dirichlet_equal(
    samples: Any,
    clients: int,
    alpha: float,
    seed: int = 0,
    sigma: float = 0.0,
    refill: bool = False,
) -> FederatedData:
    """Equal amounts; each client's class prior ~ Dirichlet(alpha, ..., alpha), one per class.

    Again and again a random client that is not full draws a class from its prior and takes the next
    image of that class; a class that has run out leaves every prior. Each client gets
    floor(n / clients) samples, the rest go unused.

    sigma   > 0: log-normal amounts instead, shares exp(sigma z) of all samples
    refill  a class that has run out begins anew, so that some images are dealt again and others
            never: what the FL-Simulator code does
    Source: Acar et al. 2021 (FedDyn) and the codes that follow it.
    """
    bank, rng = _start(samples, clients, seed)
    _positive("alpha", alpha)
    _at_least_zero("sigma", sigma)
    classes = class_counts(bank).size
    prior = rng.dirichlet(np.full(classes, alpha), size=clients)
    sizes = client_sizes(rng, len(bank), clients, sigma)
    rows = deal_by_prior(rng, _labels(bank), prior, sizes, True, refill)
    return FederatedData.from_index(bank, rows)


def hsu(samples: Any, clients: int, alpha: float, seed: int = 0) -> FederatedData:
    """Equal amounts; each client's class prior ~ Dirichlet(alpha p), p the classes' shares in all.

    Client after client draws its floor(n / clients) classes from its prior and takes the next image
    of each; a class that has run out leaves the priors. alpha = 0: exactly one class per client,
    classes dealt evenly. The sum of alpha p is alpha, so that clients hold far fewer classes than
    with `dirichlet_equal` of the same alpha.

    Source: Hsu, Qi and Brown 2019; the partitions of FedSAM and FedGloSS.
    """
    bank, rng = _start(samples, clients, seed)
    _at_least_zero("alpha", alpha)
    counts = class_counts(bank)
    if alpha == 0:
        return FederatedData.from_index(bank, _one_class(rng, bank, counts, clients))
    present = np.flatnonzero(counts)
    prior = np.zeros((clients, counts.size))
    prior[:, present] = rng.dirichlet(alpha * counts[present] / len(bank), size=clients)
    sizes = client_sizes(rng, len(bank), clients, 0.0)
    return FederatedData.from_index(bank, deal_by_prior(rng, _labels(bank), prior, sizes, False))


def _one_class(
    rng: np.random.Generator, bank: Samples, counts: np.ndarray, clients: int
) -> list[np.ndarray]:
    """One class per client and as many samples for each: what the scarcest class allows."""
    holds = assign(rng, counts, clients, 1)
    holders = holds.sum(axis=1)
    each = min(len(bank) // clients, int((counts[holders > 0] // holders[holders > 0]).min()))
    if each == 0:
        c = int(np.argmax(holders > counts))
        raise ValueError(
            f"clients: class {c} has {counts[c]} samples for {holders[c]} clients; use fewer"
        )
    labels = _labels(bank)
    stacks = {
        c: iter(rng.permutation(np.flatnonzero(labels == c))) for c in np.flatnonzero(holders)
    }
    owned = holds.argmax(axis=0)
    return [np.fromiter(islice(stacks[c], each), np.int64, each) for c in owned]


def natural(
    samples: Any,
    clients: int | None = None,
    seed: int = 0,
    min_size: int = 1,
    test: Any = None,
) -> FederatedData:
    """One client per owner, in the order of the owners' numbers; samples in their own order.

    clients   so many of the owners, drawn without replacement; None takes all
    min_size  owners with fewer samples are left out
    test      samples with owners too: each client's own test part (empty where it owns none)
    """
    bank = as_samples(samples, "samples")
    owner = _owners(bank, "samples")
    ids, sizes = np.unique(owner, return_counts=True)
    ids = ids[sizes >= min_size]
    if not 1 <= (ids.size if clients is None else clients) <= ids.size:
        raise ValueError(
            f"clients: expected 1 to {ids.size}, the owners of at least {min_size} samples; "
            f"got {clients}"
        )
    if clients is not None:
        rng = np.random.Generator(np.random.Philox(check_seed(seed)))
        ids = np.sort(rng.choice(ids, clients, replace=False))
    data = FederatedData.from_index(bank, _by_owner(owner, ids))
    if test is None:
        return data
    other = as_samples(test, "test")
    parts = _by_owner(_owners(other, "test"), ids)
    return data.with_test([other.take(torch.from_numpy(rows)) for rows in parts])


def _owners(bank: Samples, name: str) -> np.ndarray:
    if bank.owner is None:
        raise ValueError(f"{name}.owner: expected samples that name their owners; got none")
    return bank.owner.cpu().numpy()


def _by_owner(owner: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """Rows of each of the sorted `ids`, in order."""
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], ids, side="left")
    last = np.searchsorted(owner[order], ids, side="right")
    return [order[a:b] for a, b in zip(first, last, strict=True)]


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
    "dirichlet-equal": dirichlet_equal,
    "hsu": hsu,
    "iid": iid,
    "natural": natural,
    "shards": shards,
}


def partition(name: str, samples: Any, **options: Any) -> FederatedData:
    """The partition called `name` with its options."""
    if name not in _PARTITIONS:
        raise unknown("partition", name, _PARTITIONS)
    check_options(name, _PARTITIONS[name], options, own=("samples",))
    return _PARTITIONS[name](samples, **options)


def _labels(bank: Samples) -> np.ndarray:
    return bank.y.cpu().numpy()


def _positive(name: str, value: float) -> None:
    if not isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a finite number > 0; got {value}")


def _at_least_zero(name: str, value: float) -> None:
    if not isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number >= 0; got {value}")


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
