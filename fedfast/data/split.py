"""A test part for each client, cut from its own samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..random import SPLIT, check_seed, keys64
from ._checks import check_number
from .federated import FederatedData


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
    cuts = [_cut(data, i, test_share, seed) for i in range(data.num_clients)]
    kept, sizes = [rows for rows, _ in cuts], np.array([len(rows) for rows, _ in cuts])
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])).to(data.order.device)
    test = [data.samples.take(rows) for _, rows in cuts]
    return replace(data, order=torch.cat(kept), offsets=offsets, sizes=sizes, test=test)


def _cut(data: FederatedData, i: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows kept, rows set aside) of client i."""
    rows = data.order[int(data.offsets[i]) : int(data.offsets[i + 1])]
    n = len(rows)
    count = min(round(share * n), max(n - 1, 0))
    drawn = np.argsort(keys64(seed, 0, i, SPLIT, n), kind="stable")[:count]
    chosen = torch.zeros(n, dtype=torch.bool, device=rows.device)
    chosen[torch.from_numpy(drawn)] = True
    return rows[~chosen], rows[chosen]
