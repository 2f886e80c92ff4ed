"""Mini-batches of K clients, and the batches of all steps of a chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Minibatch:
    """One local step's samples of K clients.

    x, y   [K, B, ...], [K, B]
    count  [K] int32, how many of a client's B samples are real, the first ones
    seeds  [K] int64, of each client's random layers; None where nothing is drawn
    """

    x: Tensor
    y: Tensor
    count: Tensor
    seeds: Tensor | None = None

    def first(self, clients: int) -> Minibatch:
        """Views of the first clients' part."""
        seeds = None if self.seeds is None else self.seeds[:clients]
        return Minibatch(self.x[:clients], self.y[:clients], self.count[:clients], seeds)


@dataclass(frozen=True)
class Draws:
    """How a chunk's images are augmented: offset [T, K, B, 2] int32 (y, x), flip [T, K, B].

    Step by step, so that what a step takes is contiguous.
    """

    offset: Tensor
    flip: Tensor


@dataclass(frozen=True)
class ChunkBatches:
    """The batches of all local steps of K clients, those with more steps first.

    clients  [K] ids
    rows     [K, T, B] samples of the data set, by row
    count    [K, T] samples of each step, 0 where a client is done
    draws    how each step's images are augmented, if they are
    seeds    [T, K] int64 of each step's random layers, if there are any
    """

    round: int
    clients: np.ndarray
    rows: Tensor
    count: Tensor
    draws: Draws | None = None
    seeds: Tensor | None = None

    def active(self) -> list[int]:
        """How many clients train at each step: always the first ones."""
        return self.count.ne(0).sum(dim=0).tolist()

    def to(self, device: torch.device) -> ChunkBatches:
        """With rows and counts on `device`."""
        return replace(self, rows=self.rows.to(device), count=self.count.to(device))
