"""The size of a program's buffers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BufferSpec:
    """Up to `clients` clients with batches of `width` samples, on one device."""

    clients: int
    width: int
    device: torch.device

    def zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A row for each client: `[clients, *shape]`."""
        return torch.zeros(self.clients, *shape, dtype=dtype, device=self.device)
