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
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..input_pipeline import Draws

if TYPE_CHECKING:
    from ..client_loop import Batches

Step = Callable[[], None]


class Recorder(Protocol):
    """Whoever can write down what a step launches."""

    def record(self, step: Step) -> Step:
        """Note what `step` launches, without its effects; the result has them, each time."""


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


class Inputs:
    """What changes from one step to the next, at addresses that stay.

    start  [S], the model sent; lr [K] float64
    batch  one step's rows [K, 1, B], counts [K, 1], draws and seeds [1, K], like `Batches` of a
           single step
    """

    def __init__(self, start: Tensor, batches: Batches, clients: int) -> None:
        width = batches.sample.shape[2]
        self.start = torch.empty_like(start)
        self.lr = torch.zeros(clients, dtype=torch.float64, device=start.device)
        rows = batches.sample.new_zeros(clients, 1, width)
        count = batches.count.new_zeros(clients, 1)
        seeds = None if batches.seeds is None else batches.seeds.new_zeros(1, clients)
        self.batch = replace(
            batches, sample=rows, count=count, draws=_room(batches.draws, rows), seeds=seeds
        )

    def advance(self, batches: Batches, s: int, active: int) -> None:
        """Step `s` of the first `active` clients comes next."""
        self.batch.sample[:active, 0].copy_(batches.sample[:active, s])
        self.batch.count[:active, 0].copy_(batches.count[:active, s])
        if batches.draws is not None and self.batch.draws is not None:
            self.batch.draws.offset[0, :active].copy_(batches.draws.offset[s, :active])
            self.batch.draws.flip[0, :active].copy_(batches.draws.flip[s, :active])
        if batches.seeds is not None and self.batch.seeds is not None:
            self.batch.seeds[0, :active].copy_(batches.seeds[s, :active])


class Replay:
    """Runs the steps of chunks of up to `clients` clients: a shape's first one as it is, then from
    a recording."""

    def __init__(self, recorder: Recorder, clients: int) -> None:
        self._recorder, self._clients = recorder, clients
        self._inputs: Inputs | None = None
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Step] = {}

    def begin(self, start: Tensor, batches: Batches, lr: float) -> Chunk:
        """A chunk from the row `start` [S]."""
        at = start.device
        on = replace(batches, sample=batches.sample.to(at), count=batches.count.to(at))
        if self._inputs is None or self._inputs.batch.sample.shape[2] != on.sample.shape[2]:
            self._inputs = Inputs(start, on, self._clients)
            self._seen.clear()
        self._inputs.start.copy_(start)
        self._inputs.lr.fill_(lr)
        return Chunk(self, self._inputs, on)

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
class Chunk:
    """A chunk under way; batches as given, on the device."""

    replay: Replay
    inputs: Inputs
    batches: Batches

    def run(self, s: int, active: int, step: Callable[[Inputs], None]) -> None:
        """Step `s` of the first `active` clients; `step` reads live buffers and inputs alone."""
        self.inputs.advance(self.batches, s, active)
        self.replay.run((active, s == 0), lambda: step(self.inputs))


def _room(draws: Draws | None, rows: Tensor) -> Draws | None:
    """Draws for one step of `rows` [K, 1, B]."""
    if draws is None:
        return None
    shape = rows.transpose(0, 1).shape
    return Draws(draws.offset.new_zeros(*shape, 2), draws.flip.new_zeros(shape))
