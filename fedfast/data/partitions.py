"""Partitions: a pooled data set split over clients; no sample is used twice, unless asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch

from .._messages import check_options, format_value
from ..random import check_seed
from ..validation.values import Count, Number, integer
from ._assign import shuffle
from ._checks import check_number, checked_samples
from ._fixed_sizes import client_sizes
from .client_parts import ClientParts, ends, spans
from .federated import FederatedData
from .registries import PARTITIONS, Population, Spread
from .samples import Samples, as_samples

_BLOCK = 1 << 20  # numbers that are worked on at once


@PARTITIONS.register("iid")
def iid(samples: object, clients: Population, seed: int = 0, sigma: Spread = 0.0) -> FederatedData:
    """Shuffled and cut into `clients` parts whose sizes differ by at most one.

    sigma  > 0: log-normal sizes instead, shares exp(sigma z) of all samples (the FedDyn code)
    """
    pool, rng = checked_samples(samples, clients, seed)
    check_number("sigma", sigma)
    order = np.arange(len(pool))
    shuffle(rng, order)
    if sigma:
        return FederatedData._of(pool, order, client_sizes(rng, len(pool), clients, sigma))
    sizes = np.full(clients, len(pool) // clients)
    sizes[: len(pool) % clients] += 1
    return FederatedData._of(pool, order, sizes)


@PARTITIONS.register("natural")
def natural(
    samples: object,
    clients: Annotated[int | None, Count(), "so many of the owners; null = all"] = None,
    seed: int = 0,
    min_size: Annotated[int, Number(ge=1), "samples an owner has at least to be a client"] = 1,
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
    rows, ids, first = by_owner(owner)
    sizes = np.diff(first)
    chosen = np.flatnonzero(sizes >= min_size)
    if not 1 <= (chosen.size if clients is None else clients) <= chosen.size:
        raise ValueError(
            f"clients: expected 1 to {chosen.size}, the owners of at least "
            f"min_size={format_value(min_size)} samples; got {format_value(clients)}"
        )
    if clients is not None:
        rng = np.random.Generator(np.random.Philox(check_seed(seed)))
        chosen = np.sort(rng.choice(chosen, clients, replace=False))
    if chosen.size < ids.size:
        rows = rows[spans(first[chosen], sizes[chosen])]
    data = FederatedData._of(pool, rows, sizes[chosen])
    return data if test is None else data.with_test(_tests(test, ids[chosen]))


def _tests(test: object, ids: np.ndarray) -> ClientParts:
    """Each owner's part of the test samples, which are put in that order."""
    pool = as_samples(test, "test")
    rows, known, first = by_owner(_owners(pool, "test"))
    at = np.minimum(np.searchsorted(known, ids), known.size - 1)
    sizes = np.where(known[at] == ids, np.diff(first)[at], 0)
    own = pool.take(torch.from_numpy(rows[spans(first[at], sizes)]))
    return ClientParts(replace(own, owner=None), ends(sizes))


def _owners(samples: Samples, name: str) -> np.ndarray:
    if samples.owner is None:
        raise ValueError(f"{name}.owner: expected samples that name their owners; got none")
    return samples.owner.cpu().numpy()


def by_owner(owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, owner after owner, each in order; the owners in order [N]; where they begin [N + 1]).

    A plain sort of owner and row in one number is several times faster than a stable one of owners.
    """
    low, bits = int(owner.min()), max(1, int(owner.size - 1).bit_length())
    if (owner[1:] >= owner[:-1]).all():
        rows, first = np.arange(owner.size), _begins(owner, 0)
        return rows, owner[first[:-1]], first
    if int(owner.max()) - low >= 1 << (63 - bits):
        rows = np.argsort(owner, kind="stable")
        first = _begins(owner[rows], 0)
        return rows, owner[rows[first[:-1]]], first
    keys = owner.astype(np.int64)
    keys -= low
    keys <<= bits
    for a in range(0, keys.size, _BLOCK):
        part = keys[a : a + _BLOCK]
        part |= np.arange(a, a + part.size)
    keys.sort()
    first = _begins(keys, bits)
    known = (keys[first[:-1]] >> bits) + low
    keys &= (1 << bits) - 1
    return keys, known, first


def _begins(keys: np.ndarray, bits: int) -> np.ndarray:
    """Where numbers without their lowest `bits` change, the beginning and the end too."""
    found = [np.zeros(1, dtype=np.int64)]
    for a in range(0, keys.size - 1, _BLOCK):
        high = keys[a : a + _BLOCK + 1] >> bits
        found.append(np.flatnonzero(high[1:] != high[:-1]) + (a + 1))
    return np.concatenate([*found, [keys.size]])


def partition(name: str, samples: object, **options: object) -> FederatedData:
    """The partition called `name`, or "package.module:function", with its options."""
    make = PARTITIONS.find(name)
    check_options(name, make, options, own=("samples",))
    made = make(samples, **options)
    if not isinstance(made, FederatedData):
        raise TypeError(f"partition {name}: expected FederatedData; got {format_value(made)}")
    return made
