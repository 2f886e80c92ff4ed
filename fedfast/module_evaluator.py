"""Evaluation by the user's module itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .copies import copy_of
from .data import Samples
from .evaluation import Jobs, Part, assess, total
from .layout import FlatLayout
from .losses import Loss
from .metrics import Metric
from .random import EVALUATION, keys64
from .random_state import kept_random_state, seed_all
from .torch_settings import rounding
from .worker_pool import WorkerPool

EVALUATION_BATCH = 512


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
        self.modules = [copy_of(module).eval() for _ in range(pool.workers)]

    @torch.no_grad()
    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]."""
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
        return total(self.loss, parts, samples.y)

    def _part(self, worker: int, tensors: dict[str, Tensor], samples: Samples, start: int) -> Part:
        part = samples.take(slice(start, start + EVALUATION_BATCH))
        outputs = self._outputs(worker, tensors, part, start)
        return assess(self.loss, self.metric, outputs, part.y, len(samples))

    @torch.no_grad()
    def correct(self, jobs: Jobs) -> list[Tensor]:
        """How right each prediction [n] of every job is, as the metric has it."""
        workers = self.pool.workers

        def work(worker: int) -> list[Tensor]:
            with torch.no_grad():
                return [
                    self.metric(self._outputs(worker, self._tensors(row()), part, 0), part.y)
                    for row, part in jobs[worker::workers]
                ]

        with kept_random_state(), rounding(self.precision):
            found = self.pool.each(work)
        return [found[i % workers][i // workers] for i in range(len(jobs))]

    def _tensors(self, row: Tensor) -> dict[str, Tensor]:
        return self.layout.tensors(row.clone())  # modules may write into what they are given

    def _outputs(
        self, worker: int, tensors: dict[str, Tensor], samples: Samples, start: int
    ) -> Tensor:
        if self.random:
            seed_all(self.seed ^ start)
        x = samples.inputs(self.layout.dtype).clone()  # forward may write into it: the set stays
        return functional_call(self.modules[worker], tensors, (x,))
