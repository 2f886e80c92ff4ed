"""A test part for each client, cut from its own samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..random import SPLIT, check_seed, keys64
from ._checks import check_number
from .client_parts import ClientParts, ends
from .federated import FederatedData

_BLOCK = 1 << 20  # samples that numbers are drawn for at once


def local_split(data: FederatedData, test_share: float = 0.3, seed: int = 0) -> FederatedData:
    """The same clients, each with round(test_share n) of its n samples set aside as its test part.

    Which ones depends on (seed, client, n) alone; a client keeps at least one sample to train, and
    those it keeps stay in their order. Raises ValueError where clients have test parts already.
    Source: the 70/30 split of personalized protocols (FedFSA, PFLlib), there of train and test
    pooled: partition `Data.pooled()`.
    """
    if not isinstance(data, FederatedData):
        raise TypeError(f"data: expected FederatedData; got {type(data).__name__}")
    check_number("test_share", test_share, above=True)
    if test_share >= 1:
        raise ValueError(f"test_share: expected a share in (0, 1); got {test_share}")
    if data.test is not None:
        raise ValueError("data: expected clients without test parts; they have some")
    check_seed(seed)
    chosen, counts = _chosen(data, test_share, seed)
    order, keeps = data.owned(), data.sizes - counts
    at = torch.from_numpy(chosen).to(order.device)
    offsets = torch.from_numpy(ends(keeps)).to(order.device)
    test = ClientParts(data.samples.take(order[at]), ends(counts))
    return replace(data, order=order[~at], offsets=offsets, sizes=keeps, test=test)


def _chosen(data: FederatedData, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(which of all clients' samples, one after another, are set aside; how many of each)."""
    begin, sizes = ends(data.sizes), data.sizes
    chosen, counts = np.zeros(int(begin[-1]), dtype=bool), np.zeros_like(sizes)
    by_size = np.argsort(sizes, kind="stable")
    ordered = sizes[by_size]
    for n in np.unique(ordered[ordered > 0]).tolist():
        a, b = np.searchsorted(ordered, [n, n + 1])
        count = min(round(share * n), n - 1)
        counts[by_size[a:b]] = count
        each = max(1, _BLOCK // n)
        for start in range(a, b, each) if count else ():
            ids = by_size[start : min(b, start + each)]
            drawn = np.argsort(keys64(seed, 0, ids, SPLIT, n), axis=1, kind="stable")[:, :count]
            chosen[begin[ids, None] + drawn] = True
    return chosen, counts
