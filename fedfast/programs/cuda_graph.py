"""A local step as one captured graph, replayed with nothing changed but what its inputs hold.

On CUDA a step of a small model is mostly launches. So a step is captured once per shape (clients
that train, first step or not) and replayed from then on. A replay repeats addresses and numbers as
they were: whatever differs between steps (rows of the batch, counts, learning rate, the model sent,
draws of augmentation, seeds of dropout) is copied to the same place before each, on the device, and
the step reads it there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..batches import ChunkBatches, Draws, Packing

Step = Callable[[], None]


class Recorder(Protocol):
    """Records what a step launches."""

    def record(self, step: Step) -> Step:
        """What `step` launches, without running it; each call of the result runs it."""


class CudaRecorder:
    """CUDA graphs. They run one after another and leave nothing behind: one memory pool serves."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Step) -> Step:
        """See `Recorder`; the step must have run before, so that nothing is compiled or made."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        return graph.replay


class RecordedInputs:
    """What changes from one step to the next, at addresses that stay.

    start  [S], the model sent; lr [K] float64
    batch  the batches of one step, packed: rows [K, B], counts, draws and seeds [K]
    """

    def __init__(self, start: Tensor, batches: ChunkBatches, clients: int) -> None:
        width = batches.rows.shape[1]
        self.start = torch.empty_like(start)
        self.lr = torch.zeros(clients, dtype=torch.float64, device=start.device)
        rows = batches.rows.new_zeros(clients, width)
        count = batches.count.new_zeros(clients)
        seeds = None if batches.seeds is None else batches.seeds.new_zeros(clients)
        draws = _empty_draws(batches.draws, rows)
        packing = Packing.of(np.ones(clients, dtype=np.int64))
        self.batch = replace(
            batches, rows=rows, count=count, packing=packing, draws=draws, seeds=seeds
        )

    def advance(self, batches: ChunkBatches, s: int, active: int) -> None:
        """Step `s` of the first `active` clients comes next."""
        lines, own = batches.packing.at(s, active), self.batch
        own.rows[:active].copy_(batches.rows[lines])
        own.count[:active].copy_(batches.count[lines])
        if batches.draws is not None and own.draws is not None:
            own.draws.offset[:active].copy_(batches.draws.offset[lines])
            own.draws.flip[:active].copy_(batches.draws.flip[lines])
        if batches.seeds is not None and own.seeds is not None:
            own.seeds[:active].copy_(batches.seeds[lines])


class Replay:
    """Runs steps of up to `clients` clients: a shape's first one as it is, then recorded."""

    def __init__(self, recorder: Recorder, clients: int) -> None:
        self._recorder, self._clients = recorder, clients
        self._inputs: RecordedInputs | None = None
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Step] = {}

    def begin(self, start: Tensor, batches: ChunkBatches, lr: float | Tensor) -> RecordedChunk:
        """A chunk from the row `start` [S]."""
        on = batches.to(start.device)
        if self._inputs is None or self._inputs.batch.rows.shape[1] != on.rows.shape[1]:
            self._inputs = RecordedInputs(start, on, self._clients)
            self._seen.clear()
        self._inputs.start.copy_(start)
        if isinstance(lr, Tensor):
            self._inputs.lr[: len(lr)].copy_(lr)
        else:
            self._inputs.lr.fill_(lr)
        return RecordedChunk(self, self._inputs, on)

    def forget(self) -> None:
        """The samples lie elsewhere now: nothing recorded reads them."""
        self._seen.clear()
        self._recorded.clear()

    def run(self, shape: Hashable, step: Step) -> None:
        """Run `step`, or what a step of the same shape was recorded as."""
        if shape not in self._seen:
            self._recorded.clear()  # this one may make buffers larger: their addresses are gone
            step()
            self._seen.add(shape)  # not before: one that was broken off has not made them all
            return
        if shape not in self._recorded:
            self._recorded[shape] = self._recorder.record(step)
        self._recorded[shape]()


@dataclass(frozen=True)
class RecordedChunk:
    """A chunk in training; batches as given, on the device."""

    replay: Replay
    inputs: RecordedInputs
    batches: ChunkBatches

    def run(self, s: int, active: int, step: Callable[[RecordedInputs], None]) -> None:
        """Step `s` of the first `active` clients; `step` reads live buffers and inputs alone."""
        self.inputs.advance(self.batches, s, active)
        self.replay.run((active, s == 0), lambda: step(self.inputs))


def _empty_draws(draws: Draws | None, rows: Tensor) -> Draws | None:
    """Draws for one step of `rows` [K, B]."""
    if draws is None:
        return None
    return Draws(draws.offset.new_zeros(*rows.shape, 2), draws.flip.new_zeros(rows.shape))
