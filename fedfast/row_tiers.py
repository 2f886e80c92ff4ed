"""Which memory clients' rows are kept in between rounds: the device's, the host's, or a disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

TIERS = ("auto", "device", "host", "disk")


@dataclass(frozen=True)
class RowTier:
    """Where rows are kept.

    name    "device", "host" (the CPU's memory) or "disk"
    dtype   they are stored in, None as they are worked on
    places  that a run is expected to use; cohort: the most clients of a round
    folder  of the disk's file
    """

    name: str = "device"
    dtype: torch.dtype | None = None
    places: int = 64
    cohort: int = 1
    folder: Path | None = None

    def staged(self, dtype: torch.dtype) -> bool:
        """Whether rows worked on in `dtype` are copies of what is kept."""
        return self.name != "device" or self.dtype not in (None, dtype)
