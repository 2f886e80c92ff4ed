"""K models of one layer program on the same samples: a forward pass with a shared input."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batches import Minibatch
from ..data import Samples
from ..evaluation import Part, assess, total
from ..layout import FlatLayout
from ..metrics.accuracy import Loss, Metric
from ..programs.context import BatchContext
from ..programs.evaluator import elements_per_sample, width_of
from ..programs.plans import PlanCache
from ..programs.program import BufferSpec, Program
from ..programs.workspace import Workspace


class ProgramLosses:
    """Accuracy and loss of up to `models` models at once.

    like  `[>= 1, ...]` samples: what inputs are like
    The batch lies in memory once: all models read it, with stride 0 from one to the next.
    """

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        loss: Loss,
        metric: Metric,
        models: int,
        like: Tensor,
        backend: str,
    ) -> None:
        self.program, self.layout, self.loss, self.metric = program, layout, loss, metric
        self.backend = backend
        sample = elements_per_sample(program)
        self.width = width_of(sample)
        spec = BufferSpec(models, self.width, like.device)
        self._workspace = Workspace(program, layout, spec, learns=False)
        self._rows = layout.bank(models, like.device)
        self._x = like.new_zeros(self.width, *like.shape[1:])
        count = torch.full((models,), self.width, dtype=torch.int32, device=like.device)
        self._batch = Minibatch(self._x.expand(models, *self._x.shape), count, count)
        self._plans = PlanCache(self.width * (layout.trained // 8 + sample))
        plain = not layout.ties and not program.reuses
        self._plannable = plain and all(record.repeats for record in program.records)

    def __call__(self, rows: Tensor, samples: Samples) -> list[tuple[float, float]]:
        """(accuracy, mean loss) of each of the models `rows` `[K, S]`."""
        models = len(rows)
        self._rows[:models].copy_(rows)
        found: list[list[Part]] = [[] for _ in rows]
        for start in range(0, len(samples), self.width):
            part = samples.take(slice(start, start + self.width))
            self._x[: len(part)] = part.inputs(self.layout.dtype)
            self._forward(models)
            logits = self._logits
            for k in range(models):
                z = logits[k, : len(part)]
                found[k].append(assess(self.loss, self.metric, z, part.y, len(samples)))
        return [total(self.loss, parts, samples.y) for parts in found]

    def _forward(self, models: int) -> None:
        if self._plannable:
            whole = len(self._rows)
            self._plans.plan((), whole, lambda: self._run(whole)).run(models, self._plans.work)
        else:
            self._run(models)

    def _run(self, models: int) -> None:
        """What lies beyond the last sample is computed too, and read by nobody."""
        w, x, count = (t[:models] for t in (self._rows, self._batch.x, self._batch.count))
        batch = Minibatch(x, count, count)  # no loss is taken: labels are not read
        context = BatchContext(self._workspace, self.backend, "fp32", batch, w, None, w)
        for record in self.program.records:
            record.forward(context)

    @property
    def _logits(self) -> Tensor:
        """`[K, width, classes]`"""
        return self._workspace.values[self.program.root(self.program.output)].flatten(2)
