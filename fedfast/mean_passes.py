"""Passes over a chunk of models for the mean of a round, recorded: the next round's take the same
buffers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import kernels
from .running_sum import Place
from .state import ServerState

LATEST = 16  # chunks of a round, or sizes of cohorts, whose passes are kept


@dataclass(frozen=True)
class Ending:
    """The server's step at the end of a mean: `after.row` from `before.row` by `rule`."""

    rule: kernels.Server
    before: ServerState
    after: ServerState

    def renew(self) -> None:
        """Take back what an earlier try left in the moments."""
        for now, then in ((self.after.m, self.before.m), (self.after.v, self.before.v)):
            if now is not None and then is not None:
                now.copy_(then)


@dataclass(frozen=True)
class Chunk:
    """Models [K, S] with their weights [K]; `ending` where the server's step follows.

    place  None: added to a sum that is complete
    nodes  of the sum, above the lowest
    """

    models: Tensor
    weights: Tensor
    sent: Tensor
    place: Place | None
    nodes: Tensor | None
    ending: Ending | None

    @property
    def key(self) -> Hashable:
        """The buffers and numbers of a pass, but for the weights."""
        models, ending = self.models, self.ending
        where = models.data_ptr(), models.shape, models.stride(0), self.sent.data_ptr(), self.place
        nodes = 0 if self.nodes is None else self.nodes.data_ptr()
        if ending is None:
            return where, nodes
        return where, nodes, ending.rule, ending.before.row.data_ptr(), ending.after.row.data_ptr()


# Of a region: the squared norms of the clients' updates [K], and that of the mean [].
Squares = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RecordedPass:
    """A plan, the weights it reads, and the squares that it writes, by region."""

    plan: kernels.Plan
    weights: Tensor
    squares: list[Squares]


class RecordedPasses:
    """What `work` does with a chunk, recorded by the first of its kind.

    work     returns squares [K + 1] of each region
    records  whether the backend's operations can be recorded at all
    """

    def __init__(self, work: Callable[[Chunk], list[Tensor]], records: bool) -> None:
        self._work, self._records = work, records
        self._kept: dict[Hashable, RecordedPass] = {}
        self._models = 0  # where those lie whose passes are kept

    def run(self, chunk: Chunk) -> list[Squares]:
        """The squares; they are the next pass's to overwrite."""
        if not self._records:
            return self._done(chunk)
        found = self.recorded(chunk)
        found.weights.copy_(chunk.weights)
        found.plan.run_whole()
        return found.squares

    def recorded(self, chunk: Chunk) -> RecordedPass:
        """The pass, to be run for any weights."""
        key = chunk.key
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._made(chunk)
        return found

    def _made(self, chunk: Chunk) -> RecordedPass:
        self._forget(chunk.models.untyped_storage().data_ptr())
        weights = torch.empty(len(chunk.models), dtype=chunk.models.dtype)
        with kernels.Plan(whole=True) as plan:
            squares = self._done(replace(chunk, weights=weights))
        return RecordedPass(plan, weights, squares)

    def _done(self, chunk: Chunk) -> list[Squares]:
        return [(each[:-1], each[-1]) for each in self._work(chunk)]

    def _forget(self, models: int) -> None:
        """Plans hold on to buffers: none of a run's former ones, and not too many."""
        if models != self._models:
            self._kept.clear()
        elif len(self._kept) >= LATEST:
            del self._kept[next(iter(self._kept))]
        self._models = models
