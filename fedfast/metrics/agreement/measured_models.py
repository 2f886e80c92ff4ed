"""Models of a cohort's clients, kept to a round's end for metrics that read them.

Where all of them take more than `KEPT` bytes, as many as that are kept, evenly spread over the ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...distributed.ranks import Ranks

KEPT = 1 << 30  # bytes of models


def measured_clients(cohort: int, row_bytes: int) -> int:
    """M, how many clients of a cohort have their models kept."""
    return min(cohort, max(2, KEPT // max(row_bytes, 1)))


class MeasuredModels:
    """Of the round that `begin` began.

    trained  elements of a model
    picked   positions of the clients whose models are kept, ascending [M]
    models   `[M, trained]`, None before there are any
    """

    def __init__(self, trained: int) -> None:
        self._trained, self._clients = trained, 0
        self.picked = np.zeros(0, np.int64)
        self.models: Tensor | None = None

    def begin(self, ids: np.ndarray, row: Tensor, everybody: bool) -> None:
        """Before the first chunk of clients `ids` [C]; row: what models are like."""
        clients, bytes_each = len(ids), self._trained * row.element_size()
        count = clients if everybody else measured_clients(clients, bytes_each)
        spread = np.arange(count) * clients // count
        self.picked = np.sort(np.argsort(ids, kind="stable")[spread])
        self._clients, self.models = clients, None

    def keep(self, models: Tensor, part: slice) -> None:
        """Models of a chunk `[K, trained]`, which are at `part` of the cohort."""
        first, last = np.searchsorted(self.picked, (part.start, part.stop))
        if len(models) == len(self.picked) == self._clients:
            self.models = models  # the whole cohort in live buffers, until the next one trains
            return
        rows = self._room(models.dtype, models.device)
        rows[first:last] = models[torch.from_numpy(self.picked[first:last] - part.start)]

    def complete(
        self, ranks: Ranks, parts: Sequence[slice], dtype: torch.dtype, device: torch.device
    ) -> None:
        """Take over what other ranks have kept of their parts of the cohort."""
        rows = self._room(dtype, device)
        cuts = [np.searchsorted(self.picked, (p.start, p.stop)).tolist() for p in parts]
        ranks.spread([rows[a:b] for a, b in cuts])

    def _room(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        if self.models is None:
            shape = len(self.picked), self._trained
            self.models = torch.empty(shape, dtype=dtype, device=device)
        return self.models
