"""Arithmetic of the partitions class by class: shares, cuts, which client has which class."""

from __future__ import annotations

import numpy as np

from .samples import Samples

# Enough for any request met with a chance of a percent; a redraw costs a few milliseconds.
_ATTEMPTS = 1000


def class_counts(samples: Samples) -> np.ndarray:
    """Samples of each class: int64 `[classes]`."""
    return np.bincount(samples.y.cpu().numpy())


def _cuts(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where each class of `counts` `[classes]` is cut: `[classes, clients - 1]`."""
    # Shares like 1/3 add up to slightly less than 1 in floating point: 1e-9 keeps that from moving
    # a sample. The last client takes what is left, so that the sum of the shares does not matter.
    reached = np.cumsum(shares, axis=1)[:, :-1] * counts[:, None]
    return np.minimum(np.floor(reached + 1e-9), counts[:, None]).astype(np.int64)


def draw_shares(
    rng: np.random.Generator, counts: np.ndarray, clients: int, alpha: float, min_size: int
) -> np.ndarray:
    """Shares `[classes, clients]` that leave every client at least `min_size` samples."""
    for _ in range(_ATTEMPTS):
        shares = rng.dirichlet(np.full(clients, alpha), size=counts.size)
        sizes = np.diff(_cuts(shares, counts), axis=1, prepend=0, append=counts[:, None]).sum(0)
        if sizes.min() >= min_size:
            return shares
    raise ValueError(
        f"alpha: {_ATTEMPTS} draws with alpha {alpha} left some of the {clients} clients fewer "
        f"than min_size {min_size} samples; raise alpha, lower clients, or set min_size=0"
    )


def split_by_shares(
    rng: np.random.Generator, samples: Samples, shares: np.ndarray
) -> list[np.ndarray]:
    """Rows of each client: every class shuffled, then cut by its row of `shares`."""
    labels = samples.y.cpu().numpy()
    counts = np.bincount(labels, minlength=shares.shape[0])
    cuts = _cuts(shares, counts)
    parts = [
        np.split(rng.permutation(np.flatnonzero(labels == c)), cuts[c]) for c in range(counts.size)
    ]
    return [np.concatenate([part[i] for part in parts]) for i in range(shares.shape[1])]


def assign_classes(
    rng: np.random.Generator, counts: np.ndarray, clients: int, each: int
) -> np.ndarray:
    """Which client has which class, `[classes, clients]` of 0 and 1; empty classes go to none."""
    present = np.flatnonzero(counts)
    has = np.zeros((counts.size, clients), dtype=np.int64)
    clients_of = np.zeros(present.size, dtype=np.int64)
    for client in rng.permutation(clients):
        # The classes that the fewest clients have so far; ties at random.
        chosen = np.lexsort((rng.random(present.size), clients_of))[:each]
        clients_of[chosen] += 1
        has[present[chosen], client] = 1
    return has
