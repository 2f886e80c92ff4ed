"""What an ensemble is made of from its first batch on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..evaluation import assess, total
from ..metrics.accuracy import metric_for
from ..model_inspection import single_sample_trouble
from ..random import DROPOUT, keys64
from ..random_state import kept_random_state
from ..torch_settings import rounding
from .batches import BatchBuffers, Form
from .options import Options
from .prediction import Predictor, predictor_for
from .rates import Rates
from .task import Architecture, Training, loss_of
from .trainer import Trainer, Width

PART = 512  # samples that are evaluated at a time
WIDTHS = 4  # sizes of batches whose buffers are kept


class Live:
    """K models' rows, and what trains and evaluates them; each made when it is first needed.

    x  [n, ...] samples of one model, as in the first batch
    """

    def __init__(
        self, modules: list[nn.Module], x: Tensor, options: Options, rates: Rates, seed: int
    ) -> None:
        self.options, self.seed = options, seed
        labels = options.loss == "cross_entropy"
        self.form = Form(tuple(x.shape[1:]), self._inputs(x).dtype, labels, options.count)
        self.architecture = Architecture.of(modules, self._inputs(x), options)
        self.layout = self.architecture.layout
        self.rows = self.architecture.rows(modules)
        self.trainer = Trainer(self.rows, self.layout, options, rates)
        self.training: Training | None = None
        self._widths: dict[int, Width] = {}
        self._evaluates: Predictor | None = None

    def draw_by(self, seed: int) -> None:
        """Random layers draw by another seed from here on."""
        if seed != self.seed:
            self.seed, self._evaluates = seed, None

    def step(self, x: Tensor, y: Tensor, t: int) -> Tensor:
        """Step t of all models; their losses [K]."""
        shared = self._checked(x, y)
        width = self._of_width(x if shared else x[0], y if shared else y[0])
        seeds = self._seeds(t) if width.executor.random else None
        batch = width.buffers.filled(x, y, shared, seeds)
        if not width.executor.capabilities.runs_module:
            return self.trainer.step(width, batch, t)
        with kept_random_state(), rounding(self.options.precision):
            return self.trainer.step(width, batch, t)

    def outputs(self, x: Tensor) -> Tensor:
        """[K, n, ...] in evaluation mode."""
        shared = self.form.shared(x)
        predictor = self._predictor(x if shared else x[0])
        found = predictor.outputs(self.rows, self._inputs(x), shared)
        if self.form.labels and found.ndim != 3:
            raise ValueError(
                f"x: expected [n, ...], of which a model makes [n, classes]; of {list(x.shape)} it "
                f"makes {list(found.shape[1:])}"
            )
        return found

    def evaluate(self, x: Tensor, y: Tensor) -> tuple[list[float], list[float]]:
        """Accuracy and mean loss of each model."""
        shared = self._checked(x, y)
        x, y = self._inputs(x), self._targets(y)
        targets = y.expand(self.options.count, *y.shape) if shared else y
        outputs = self.outputs(x)
        loss = loss_of(self.options)
        metric = metric_for(self.options.metric, loss, outputs[0], targets[0])
        found = []
        for z, own in zip(outputs, targets, strict=True):
            cuts = [slice(a, a + PART) for a in range(0, len(own), PART)]
            parts = [assess(loss, metric, z[cut], own[cut], len(own)) for cut in cuts]
            found.append(total(loss, parts, own))
        accuracies, losses = zip(*found, strict=True)
        return list(accuracies), list(losses)

    def _checked(self, x: Tensor, y: Tensor) -> bool:
        """Whether all models share the batch."""
        shared = self.form.check(x, y)
        if self.form.labels and not y.is_cuda:
            classes = self.architecture.traits.classes
            low, high = (int(v) for v in torch.aminmax(y))
            if low < 0 or high >= classes:
                raise ValueError(
                    f"y: expected class labels from 0 to {classes - 1}; got {low} to {high}"
                )
        return shared

    def _of_width(self, x: Tensor, y: Tensor) -> Width:
        """What trains on batches [B, ...] of one model; the latest few are kept.

        Each width has its own: what a step computes does not depend on the batches before it.
        """
        held = self._widths.pop(len(x), None)
        if held is None:
            if len(self._widths) >= WIDTHS:
                del self._widths[next(iter(self._widths))]
            held = self._made(self._inputs(x), self._targets(y))
        self._widths[len(x)] = held
        return held

    def _made(self, x: Tensor, y: Tensor) -> Width:
        trouble = single_sample_trouble(self.architecture.module, x) if len(x) == 1 else ""
        if trouble:
            raise ValueError(f"x: the model cannot be trained on one sample: {trouble}")
        if self.training is None:
            self.training = Training.of(self.architecture, self.rows[0], x, y)
        executor = self.training.executor(self.options.count, len(x))
        spread = executor.capabilities.runs_module  # it may write into what it is given
        return Width(executor, BatchBuffers(self.options.count, x, y, spread))

    def _predictor(self, x: Tensor) -> Predictor:
        if self._evaluates is None:
            how = self.seed, self.options.count
            self._evaluates = predictor_for(self.architecture, self.rows[0], self._inputs(x), *how)
        return self._evaluates

    def _inputs(self, x: Tensor) -> Tensor:
        return x.to(self.options.device, self.options.dtype if x.is_floating_point() else None)

    def _targets(self, y: Tensor) -> Tensor:
        kind = self.options.dtype if y.is_floating_point() else torch.int64
        return y.to(self.options.device, kind)

    def _seeds(self, t: int) -> Tensor:
        """Of each model's random layers in step t. [K]"""
        keys = keys64(self.seed, t, np.arange(self.options.count), DROPOUT, 1)[..., 0]
        seeds = torch.from_numpy((keys >> np.uint64(1)).astype(np.int64))
        return seeds.to(self.options.device)
