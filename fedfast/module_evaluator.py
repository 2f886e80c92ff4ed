"""Evaluation by the user's module itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .copies import copy_of
from .data import Samples
from .evaluation import Jobs, Part, assess, pieces, starts_of, totals
from .first_use import FirstUse
from .layout import FlatLayout
from .losses import Loss
from .metrics.accuracy import Metric
from .pending import Pending
from .random import EVALUATION, keys64
from .random_state import kept_random_state, seed_all
from .torch_settings import rounding
from .worker_pool import WorkerPool

EVALUATION_BATCH = 512
T = TypeVar("T")


class ModuleEvaluator:
    """Evaluates models of any module: a copy of it per worker, under the weights of a row.

    random  whether the module draws random numbers; then every evaluation draws the same
    """

    def __init__(
        self,
        module: nn.Module,
        layout: FlatLayout,
        loss: Loss,
        metric: Metric,
        pool: WorkerPool,
        random: bool,
        precision: str,
        seed: int,
    ) -> None:
        self.layout, self.loss, self.metric = layout, loss, metric
        self.pool, self.random, self.precision = pool, random, precision
        self.seed = int(keys64(seed, 0, 0, EVALUATION, 1)[0] >> 1)
        self._modules = FirstUse(lambda: [copy_of(module).eval() for _ in range(pool.workers)])

    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]."""
        return self.begun(row, samples).read()

    @torch.no_grad()
    def begun(self, row: Tensor, samples: Samples) -> Pending[tuple[float, float]]:
        """The same, to be read."""
        tensors = self._tensors(row)
        starts, workers = range(0, len(samples), EVALUATION_BATCH), self.pool.workers

        def work(worker: int) -> list[tuple[int, Part]]:
            with torch.no_grad():
                return [
                    (i, self._part(worker, tensors, samples, starts[i]))
                    for i in range(worker, len(starts), workers)
                ]

        with kept_random_state(), rounding(self.precision):
            found = [part for made in self.pool.each(work) for part in made]
        parts = [part for _, part in sorted(found, key=lambda made: made[0])]
        return totals(self.loss, parts, samples.y)

    def _part(self, worker: int, tensors: dict[str, Tensor], samples: Samples, start: int) -> Part:
        part = samples.take(slice(start, start + EVALUATION_BATCH))
        outputs = self._outputs(worker, tensors, part, start)
        return assess(self.loss, self.metric, outputs, part.y, len(samples))

    @torch.no_grad()
    def correct(self, jobs: Jobs) -> list[Tensor]:
        """How right each prediction [n] of every job is, as the metric has it."""
        return self._each(jobs, lambda _, outputs, y: self.metric(outputs, y))

    @torch.no_grad()
    def by_part(self, jobs: Jobs, ends: Sequence[int]) -> list[tuple[int, Part]]:
        """(i, figures of samples of part i) in order, of parts that end at `ends`."""
        loss, metric, starts = self.loss, self.metric, starts_of(jobs)

        def look(j: int, outputs: Tensor, y: Tensor) -> list[tuple[int, Part]]:
            return list(pieces(loss, metric, outputs, y, starts[j], ends))

        return [piece for found in self._each(jobs, look) for piece in found]

    def _each(self, jobs: Jobs, look: Callable[[int, Tensor, Tensor], T]) -> list[T]:
        """look(j, outputs, targets) of every job j."""
        workers = self.pool.workers

        def work(worker: int) -> list[T]:
            with torch.no_grad():
                return [
                    look(j, self._outputs(worker, self._tensors(row()), part, 0), part.y)
                    for j, (row, part) in list(enumerate(jobs))[worker::workers]
                ]

        with kept_random_state(), rounding(self.precision):
            found = self.pool.each(work)
        return [found[j % workers][j // workers] for j in range(len(jobs))]

    def _tensors(self, row: Tensor) -> dict[str, Tensor]:
        return self.layout.tensors(row.clone())  # modules may write into what they are given

    def _outputs(
        self, worker: int, tensors: dict[str, Tensor], samples: Samples, start: int
    ) -> Tensor:
        if self.random:
            seed_all(self.seed ^ start)
        x = samples.inputs(self.layout.dtype).clone()  # forward may write into it: the set stays
        return functional_call(self._modules()[worker], tensors, (x,))
