"""Evaluation by a layer program: forward passes alone, a slice of the samples per "client".

Slices of one width lie side by side as clients of a chunk do, all under one row of weights, so that
threads and caches serve them as they serve clients in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from ..batches import Minibatch
from ..data import Samples
from ..evaluation import Jobs, Part, assess, pieces, starts_of, totals
from ..kernels import registry
from ..layout import FlatLayout
from ..losses import Loss
from ..metrics.accuracy import MULTICLASS, Metric
from ..pending import Pending
from .context import BatchContext
from .cuda_graph import CudaRecorder, Replay
from .elementwise import Dropout
from .plans import PlanCache
from .program import BufferSpec, Program
from .trace import trace
from .workspace import Workspace, places, sizes

SLICES, WIDTH = 8, 64
LARGEST = 32 << 20  # numbers, at most, that all slices together may take


def elements_per_sample(program: Program) -> int:
    """Numbers that evaluation holds for a sample: its input, and what layers make and keep."""
    made = program.elements(0) + sum(sizes(program, places(program, reuse=True)))
    return made + sum(record.saved_elements(program.shapes) for record in program.records)


def width_of(sample: int, widest: int = WIDTH) -> int:
    """Samples of a slice, `widest` at most, of so many numbers each."""
    return max(1, min(widest, LARGEST // (SLICES * sample)))


def evaluator_bytes(program: Program, layout: FlatLayout, samples: int) -> int:
    """Bytes that evaluation on so many samples touches, and its row of weights."""
    sample = elements_per_sample(program)
    width = width_of(sample)
    slices = min(SLICES, -(-samples // width))
    return layout.dtype.itemsize * (slices * width * sample + layout.stride)


class ProgramEvaluator:
    """Evaluates models of one program.

    x  `[>= 1, ...]` samples: what inputs are like
    """

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        loss: Loss,
        x: Tensor,
        backend: str,
        metric: Metric = MULTICLASS,
        width: int = WIDTH,
        precision: str = "fp32",
    ) -> None:
        self.program, self.layout, self.loss, self.metric = program, layout, loss, metric
        self.backend, self.precision, self._like = backend, precision, x
        sample = elements_per_sample(program)
        self.width = width_of(sample, width)
        read = layout.trained + sum(t.numel() for t in program.constants.values())
        self._plans = PlanCache(self.width * (read // 8 + sample))
        plain = not layout.ties and not program.reuses
        can = registry.capabilities(backend, x.new_empty(0, dtype=layout.dtype))
        self._plannable = plain and can.plans and all(r.repeats for r in program.records)

    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]."""
        return self.begun(row, samples).read()

    @torch.no_grad()
    def begun(self, row: Tensor, samples: Samples) -> Pending[tuple[float, float]]:
        """The same, to be read."""
        loss, metric, n = self.loss, self.metric, len(samples)
        parts = [assess(loss, metric, z, y, n) for z, y in self._passes(row, samples)]
        return totals(loss, parts, samples.y)

    @torch.no_grad()
    def correct(self, jobs: Jobs) -> list[Tensor]:
        """How right each prediction [n] of every job is, as the metric has it."""
        return [
            torch.cat([self.metric(z, y) for z, y in self._passes(row(), samples)])
            for row, samples in jobs
        ]

    @torch.no_grad()
    def by_part(self, jobs: Jobs, ends: Sequence[int]) -> list[tuple[int, Part]]:
        """(i, figures of samples of part i) in order, of parts that end at `ends`."""
        found: list[tuple[int, Part]] = []
        for at, (row, samples) in zip(starts_of(jobs), jobs, strict=True):
            for z, y in self._passes(row(), samples):
                found += pieces(self.loss, self.metric, z, y, at, ends)
                at += len(y)
        return found

    @torch.no_grad()
    def logits(self, row: Tensor, x: Tensor) -> Tensor:
        """Of one model on x [n, ...], n <= the width."""
        self._row.copy_(row)
        self._x[0, : len(x)] = x
        self._forward(1)
        return self._logits[: len(x)].clone()

    def _passes(self, row: Tensor, samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        """(logits [n, classes], labels [n]) of all samples, a buffer full at a time."""
        self._row.copy_(row)
        images = self._x.flatten(0, 1)
        for start in range(0, len(samples), len(images)):
            part = samples.take(slice(start, start + len(images)))
            images[: len(part)] = part.inputs(self.layout.dtype)
            self._forward(-(-len(part) // self.width))
            yield self._logits[: len(part)], part.y

    def _forward(self, slices: int) -> None:
        if self._plannable:
            self._plans.plan((), SLICES, lambda: self._run(SLICES)).run(slices, self._plans.work)
        elif self._replay is not None:
            self._replay.run(slices, lambda: self._run(slices))
        else:
            self._run(slices)

    def _run(self, slices: int) -> None:
        """What lies beyond the last sample is computed too, and read by nobody."""
        w, x = self._row.expand(slices, -1), self._x[:slices]
        batch = Minibatch(x, self._count, self._count)  # no loss is taken: labels are not read
        context = BatchContext(self._workspace, self.backend, self.precision, batch, w, None, w)
        for record in self.program.records:
            record.forward(context)

    @cached_property
    def _replay(self) -> Replay | None:
        """Of passes, which read and write the same buffers always."""
        return Replay(CudaRecorder()) if self._like.is_cuda else None

    @cached_property
    def _workspace(self) -> Workspace:
        spec = BufferSpec(SLICES, self.width, self._like.device)
        return Workspace(self.program, self.layout, spec, learns=False)

    @cached_property
    def _row(self) -> Tensor:
        return self._like.new_zeros(self.layout.stride, dtype=self.layout.dtype)

    @cached_property
    def _x(self) -> Tensor:
        return self._like.new_zeros(SLICES, self.width, *self._like.shape[1:])

    @cached_property
    def _count(self) -> Tensor:
        return torch.full((SLICES,), self.width, dtype=torch.int32, device=self._like.device)

    @property
    def _logits(self) -> Tensor:
        """`[SLICES * width, classes]`, in the order of the samples."""
        held = self._workspace.values[self.program.root(self.program.output)]
        return held.flatten(2).flatten(0, 1)


def evaluator_for(
    module: nn.Module,
    layout: FlatLayout,
    loss: Loss,
    x: Tensor,
    backend: str,
    metric: Metric = MULTICLASS,
    precision: str = "fp32",
) -> ProgramEvaluator | None:
    """An evaluator of what `module` computes in evaluation mode; None where that is no program.

    x          `[2, ...]` samples
    precision  of products, as in training
    """
    if not registry.capabilities(backend, x.new_empty(0, dtype=layout.dtype)).evaluates:
        return None
    program = evaluation_program(module, layout, x)
    if program is None:
        return None
    return ProgramEvaluator(program, layout, loss, x, backend, metric, precision=precision)


def evaluation_program(module: nn.Module, layout: FlatLayout, x: Tensor) -> Program | None:
    """What `module` computes in evaluation mode, where that is a classifier without randomness."""
    program, _ = trace(module, x, training=False)
    if program is None or len(program.shapes[program.output]) != 1:
        return None
    if not layout.constants.issuperset(program.constants):
        return None
    draws = any(isinstance(record, Dropout) for record in program.records)
    return None if draws else program
