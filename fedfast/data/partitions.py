"""Partitions: a pooled data set split over clients; no sample is used twice, unless asked for."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch

from .._messages import check_options, format_value
from ..random import check_seed
from ..validation.values import integer
from ._checks import at_least_zero, checked_samples
from ._fixed_sizes import client_sizes
from .federated import FederatedData
from .registries import COUNT, PARTITIONS, Bound, Population, Spread
from .samples import Samples, as_samples


@PARTITIONS.register("iid")
def iid(samples: object, clients: Population, seed: int = 0, sigma: Spread = 0.0) -> FederatedData:
    """Shuffled and cut into `clients` parts whose sizes differ by at most one.

    sigma  > 0: log-normal sizes instead, shares exp(sigma z) of all samples (the FedDyn code)
    """
    pool, rng = checked_samples(samples, clients, seed)
    at_least_zero("sigma", sigma)
    order = rng.permutation(len(pool))
    if sigma == 0:
        return FederatedData.from_index(pool, np.array_split(order, clients))
    sizes = client_sizes(rng, len(pool), clients, sigma)
    return FederatedData.from_index(pool, np.split(order, np.cumsum(sizes)[:-1]))


@PARTITIONS.register("natural")
def natural(
    samples: object,
    clients: Annotated[int | None, COUNT, "so many of the owners; null = all"] = None,
    seed: int = 0,
    min_size: Annotated[int, Bound(ge=1), "samples an owner has at least to be a client"] = 1,
    test: object = None,
) -> FederatedData:
    """One client per owner, in the order of the owners' numbers; samples in their own order.

    clients   so many of the owners, drawn without replacement; None takes all
    min_size  owners with fewer samples are left out
    test      samples with owners too: each client's own test part (empty where it owns none)
    """
    pool = as_samples(samples, "samples")
    owner = _owners(pool, "samples")
    integer("min_size", min_size)
    if clients is not None:
        integer("clients", clients)
    ids, sizes = np.unique(owner, return_counts=True)
    ids = ids[sizes >= min_size]
    if not 1 <= (ids.size if clients is None else clients) <= ids.size:
        raise ValueError(
            f"clients: expected 1 to {ids.size}, the owners of at least "
            f"min_size={format_value(min_size)} samples; got {format_value(clients)}"
        )
    if clients is not None:
        rng = np.random.Generator(np.random.Philox(check_seed(seed)))
        ids = np.sort(rng.choice(ids, clients, replace=False))
    data = FederatedData.from_index(pool, _by_owner(owner, ids))
    if test is None:
        return data
    other = as_samples(test, "test")
    parts = _by_owner(_owners(other, "test"), ids)
    return data.with_test([other.take(torch.from_numpy(rows)) for rows in parts])


def _owners(samples: Samples, name: str) -> np.ndarray:
    if samples.owner is None:
        raise ValueError(f"{name}.owner: expected samples that name their owners; got none")
    return samples.owner.cpu().numpy()


def _by_owner(owner: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """Rows of each of the sorted `ids`, in order."""
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], ids, side="left")
    last = np.searchsorted(owner[order], ids, side="right")
    return [order[a:b] for a, b in zip(first, last, strict=True)]


def partition(name: str, samples: object, **options: object) -> FederatedData:
    """The partition called `name`, or "package.module:function", with its options."""
    make = PARTITIONS.find(name)
    check_options(name, make, options, own=("samples",))
    made = make(samples, **options)
    if not isinstance(made, FederatedData):
        raise TypeError(f"partition {name}: expected FederatedData; got {format_value(made)}")
    return made
