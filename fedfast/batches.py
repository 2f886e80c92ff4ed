"""Mini-batches of K clients, and the batches of all steps of a chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .transfers import sent_to


@dataclass(frozen=True)
class BatchNumbers:
    """`count` and `seeds` of a mini-batch as numbers of the host's."""

    count: list[int]
    seeds: list[int] | None

    @classmethod
    def of(cls, count: Tensor, seeds: Tensor | None) -> BatchNumbers:
        """Of tensors [K]; on a device they are waited for."""
        return cls(count.tolist(), None if seeds is None else seeds.tolist())


@dataclass(frozen=True)
class Minibatch:
    """One local step's samples of K clients.

    x, y   [K, B, ...], [K, B]
    count  [K] int32, how many of a client's B samples are real, the first ones
    seeds  [K] int64, of each client's random layers; None where nothing is drawn
    known  counts and seeds on the host, for executors that decide by them
    """

    x: Tensor
    y: Tensor
    count: Tensor
    seeds: Tensor | None = None
    known: BatchNumbers | None = None

    def numbers(self) -> BatchNumbers:
        """Counts and seeds on the host."""
        return self.known or BatchNumbers.of(self.count, self.seeds)

    def first(self, clients: int) -> Minibatch:
        """Views of the first clients' part."""
        seeds = None if self.seeds is None else self.seeds[:clients]
        return Minibatch(self.x[:clients], self.y[:clients], self.count[:clients], seeds)


@dataclass(frozen=True)
class Draws:
    """How images of packed batches are augmented: offset [n, B, 2] int32 (y, x), flip [n, B]."""

    offset: Tensor
    flip: Tensor


@dataclass(frozen=True)
class Packing:
    """Where the batches of clients with descending numbers of steps lie: step by step, packed.

    offsets  [T + 1] int64 on the CPU: step s of client k is line offsets[s] + k, and so many
             clients as there are lines take it, always the first ones (as in torch's
             `PackedSequence`). Memory is that of the steps taken, however unlike clients are
    """

    offsets: Tensor

    @classmethod
    def of(cls, steps: np.ndarray) -> Packing:
        """Of clients who take `steps` [K] steps, descending."""
        if steps.size and steps[0] == steps[-1]:  # alike, as descending ones are then
            return _alike(int(steps[0]), steps.size)
        longest = int(steps.max(initial=0))
        ended = np.bincount(steps, minlength=longest + 1)[: longest + 1]
        going = len(steps) - np.cumsum(ended)[:longest]  # who takes more than s steps
        return cls(torch.from_numpy(np.concatenate([[0], np.cumsum(going)]).astype(np.int64)))

    @cached_property
    def begins(self) -> list[int]:
        """`offsets` as numbers."""
        return self.offsets.tolist()

    @cached_property
    def active(self) -> list[int]:
        """How many clients train at each step: always the first ones."""
        return [b - a for a, b in pairwise(self.begins)]

    @property
    def lines(self) -> int:
        """All batches together."""
        return self.begins[-1]

    @cached_property
    def client(self) -> np.ndarray:
        """Whose each line is, [n]: a place in the chunk."""
        return np.arange(self.lines) - np.repeat(self.offsets[:-1].numpy(), self.active)

    @cached_property
    def step(self) -> np.ndarray:
        """Which step of a client's each line is, [n]."""
        return np.repeat(np.arange(len(self.active)), self.active)

    def steps(self, clients: int) -> np.ndarray:
        """That each of so many clients takes, [K] int64."""
        return np.bincount(self.client, minlength=clients).astype(np.int64)

    def at(self, s: int, active: int) -> slice:
        """Lines of step s of the first `active` clients."""
        return slice(self.begins[s], self.begins[s] + active)

    def sums(self, values: Tensor, clients: int) -> Tensor:
        """Of whole numbers of each line [n], for each client: int64 [K]."""
        if self.lines == clients * len(self.active):  # all take all steps
            if values.device.type == "cpu":  # NumPy's small sums take half of torch's time
                own = values.numpy().reshape(-1, clients)
                return torch.from_numpy(np.add.reduce(own, 0, np.int64))
            return values.view(-1, clients).sum(0, dtype=torch.int64)
        where = torch.from_numpy(self.client).to(values.device)
        return values.new_zeros(clients, dtype=torch.int64).index_add_(0, where, values.long())


@lru_cache(maxsize=64)
def _alike(steps: int, clients: int) -> Packing:
    """Of clients who all take so many steps: most rounds are like the one before."""
    return Packing(torch.arange(steps + 1) * clients)


@dataclass(frozen=True)
class ChunkBatches:
    """The batches of all local steps of K clients, those with more steps first: n in all, packed.

    clients  [K] ids
    rows     [n, B] samples of the data set, by row
    count    [n] int32, samples of each batch
    packing  whose they are, and of which step
    draws    how each batch's images are augmented, if they are
    seeds    [n] int64 of each batch's random layers, if there are any
    drawn    the same as they were drawn, on the host, of those that were sent to a device
    """

    round: int
    clients: np.ndarray
    rows: Tensor
    count: Tensor
    packing: Packing
    draws: Draws | None = None
    seeds: Tensor | None = None
    drawn: ChunkBatches | None = None

    @property
    def active(self) -> list[int]:
        """How many clients train at each step: always the first ones."""
        return self.packing.active

    def numbers(self, lines: slice) -> BatchNumbers:
        """Counts and seeds of some batches, without a wait for the device."""
        host = self.drawn or self
        return BatchNumbers.of(host.count[lines], None if host.seeds is None else host.seeds[lines])

    @cached_property
    def steps(self) -> Tensor:
        """That each client takes, [K] int64."""
        return self.packing.sums(torch.ones_like(self.count), len(self.clients))

    @cached_property
    def seen(self) -> Tensor:
        """Samples that each client takes, [K] int64."""
        return self.packing.sums(self.count, len(self.clients))

    def to(self, device: torch.device) -> ChunkBatches:
        """With rows, counts and seeds on `device`."""
        if self.rows.device == self.count.device == device:
            return self
        rows, count = sent_to(self.rows, device), sent_to(self.count, device)
        seeds = None if self.seeds is None else sent_to(self.seeds, device)
        return replace(self, rows=rows, count=count, seeds=seeds, drawn=self)
