"""Class by class arithmetic of the partitions: shares, cuts, and who holds which class."""

from __future__ import annotations

import numpy as np

from .samples import Samples

# Enough for any request met with a chance of a percent; a redraw costs a few milliseconds.
_ATTEMPTS = 1000


def class_counts(bank: Samples) -> np.ndarray:
    """Samples of each class: int64 `[classes]`."""
    return np.bincount(bank.y.cpu().numpy())


def _cuts(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where each class of `counts` `[classes]` is cut: `[classes, clients - 1]`."""
    # Shares like 1/3 add up to a hair less than they should: no sample may be lost to that. The
    # last client takes what is left, so that the shares' own sum does not matter either.
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


def deal(rng: np.random.Generator, bank: Samples, shares: np.ndarray) -> list[np.ndarray]:
    """Rows of each client: every class shuffled, then cut by its row of `shares`."""
    labels = bank.y.cpu().numpy()
    counts = np.bincount(labels, minlength=shares.shape[0])
    cuts = _cuts(shares, counts)
    parts = [
        np.split(rng.permutation(np.flatnonzero(labels == c)), cuts[c]) for c in range(counts.size)
    ]
    return [np.concatenate([part[i] for part in parts]) for i in range(shares.shape[1])]


def assign(rng: np.random.Generator, counts: np.ndarray, clients: int, each: int) -> np.ndarray:
    """Which client holds which class that has samples, `[classes, clients]` of 0 and 1, evenly."""
    present = np.flatnonzero(counts)
    holds = np.zeros((counts.size, clients), dtype=np.int64)
    holders = np.zeros(present.size, dtype=np.int64)
    for client in rng.permutation(clients):
        # The classes with the fewest holders so far; ties at random.
        chosen = np.lexsort((rng.random(present.size), holders))[:each]
        holders[chosen] += 1
        holds[present[chosen], client] = 1
    return holds
