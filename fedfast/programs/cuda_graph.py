"""A local step as one captured graph, replayed with nothing changed but what lies in memory.

On CUDA a step of a small model is mostly launches. So a step is captured once per shape (clients
that train, first step or not) and replayed from then on. A replay repeats addresses and numbers as
they were: whatever differs between steps lies at addresses that stay (`recorded_steps.py`), and the
step reads it there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import torch

from ..kernels.recording import keeping

Step = Callable[[], None]
MOST = 256  # recordings: each is some hundred nodes in the driver's and the device's memory


class Recorder(Protocol):
    """Records what a step launches."""

    def record(self, step: Step) -> Step:
        """What `step` launches, without running it; each call of the result runs it."""


class CudaRecorder:
    """CUDA graphs. They run one after another and leave nothing behind: one memory pool serves."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._first: torch.cuda.CUDAGraph | None = None  # a pool lives as long as a graph of it

    def record(self, step: Step) -> Step:
        """See `Recorder`; the step must have run before, so that nothing is compiled or made.

        Other threads, which fetch rows and draw batches, may go on using the device.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            step()
        self._first = self._first or graph
        return graph.replay


@dataclass(frozen=True)
class Recording:
    """A recorded step.

    held  the tensors that its kernels were given, and the step with those that torch's operations
          were: a graph repeats addresses, whoever else has forgotten what lies there
    """

    run: Step
    held: tuple[object, ...]


class Replay:
    """Runs steps: a shape's first one as it is, then recorded; no shape drops another's."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Recording] = {}

    def forget(self) -> None:
        """What steps read lies elsewhere now: nothing recorded reads it."""
        self._seen.clear()
        self._recorded.clear()

    def run(self, shape: Hashable, step: Step) -> None:
        """Run `step`, or what a step of the same shape was recorded as."""
        if shape not in self._seen:
            step()
            self._seen.add(shape)  # not before: one that was broken off has not made its buffers
            return
        found = self._recorded.pop(shape, None) or self._record(step)
        self._recorded[shape] = found  # the latest one used is the last
        found.run()

    def _record(self, step: Step) -> Recording:
        if len(self._recorded) >= MOST:
            del self._recorded[next(iter(self._recorded))]
        with keeping() as held:
            run = self._recorder.record(step)
        return Recording(run, (step, *held))
