"""Whose samples a round's batches are of: the run's own, or ones given for a single call."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .data import FederatedData
from .random import Ints
from .round_lines import Owned


@dataclass(frozen=True, eq=False)
class ClientSamples:
    """The samples of `data`, asked for by clients' ids.

    ids  [C], the clients whose samples they are; None: client i's are those of `data`'s client i
    """

    data: FederatedData
    ids: Ints | None = None

    @classmethod
    def of(cls, data: FederatedData) -> ClientSamples:
        """Of all clients of `data`; without their test parts, which nobody trains on."""
        return cls(replace(data, test=None))

    def sizes(self, clients: Ints) -> Ints:
        """How many samples `clients` [K] have. [K]"""
        return self.data.sizes[self._places(clients)]

    def rows(self, clients: Ints, index: Tensor) -> Tensor:
        """See `FederatedData.rows`."""
        return self.data.rows(torch.from_numpy(self._places(clients)), index)

    def owned(self, clients: Ints) -> Owned | None:
        """Where the samples of `clients` [K] lie; None where that is not on the CPU."""
        data = self.data
        if data.order.device.type != "cpu":
            return None
        return Owned(self._places(clients), data.offsets, data.order)

    def _places(self, clients: Ints) -> Ints:
        if self.ids is None:
            return clients
        order = np.argsort(self.ids)
        return order[np.searchsorted(self.ids, clients, sorter=order)]
