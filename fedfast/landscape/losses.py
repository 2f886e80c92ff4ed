"""`ModelLosses`: accuracy and mean loss of many models on the same samples, K models at a time.

A layer program takes rows of weights `[K, S]` and a batch that all of them share; where a model is
no program, the module itself is evaluated under one row after another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.samples import as_samples
from ..evaluation import Evaluator
from ..kernels import registry
from ..layout import FlatLayout
from ..metrics.accuracy import MULTICLASS, Loss, Metric
from ..model_inspection import inspect_model
from ..module_executor import ModuleExecutor
from ..programs.evaluator import evaluation_program
from ..torch_settings import torch_threads
from .program_losses import ProgramLosses

MODELS = 8  # at once


class ModelLosses:
    """Evaluates models of one architecture on samples.

    module   of the models, evaluated in evaluation mode: dropout off, batch normalisation by
             running statistics, those of the row
    layout   of rows `[S]`
    samples  inputs and targets: samples or (x, y)
    loss     (outputs, targets) -> scalar mean over the batch
    metric   (outputs, targets) -> how right each sample's prediction is
    models   how many go through the layers together; leaves no trace in a bit
    threads  by default torch's
    program  whether a layer program may be used
    """

    def __init__(
        self,
        module: nn.Module,
        layout: FlatLayout,
        samples: object,
        *,
        loss: Loss = F.cross_entropy,
        metric: Metric = MULTICLASS,
        models: int = MODELS,
        threads: int | None = None,
        backend: str = "auto",
        program: bool = True,
    ) -> None:
        own = as_samples(samples)
        if not len(own):
            raise ValueError("samples: expected at least one; got none")
        if models < 1:
            raise ValueError(f"models: expected at least 1; got {models}")
        self.layout, self.samples, self.models = layout, own, models
        self.threads, self.backend = threads or torch.get_num_threads(), backend
        self._module: Evaluator | None = None
        self._program: ProgramLosses | None = None
        x = own.take(slice(0, 2)).inputs(layout.dtype)
        found = evaluation_program(module, layout, x) if program and self._native(x) else None
        if found is not None:
            self._program = ProgramLosses(found, layout, loss, metric, models, x, backend)
        else:
            traits = inspect_model(module, x)
            executor = ModuleExecutor(module, layout, loss, self.threads, traits, metric)
            self._module = executor.evaluator

    @property
    def batched(self) -> bool:
        """Whether models go through a layer program together."""
        return self._program is not None

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(accuracies, mean losses), each float64 `[K]`, of the models `rows` `[K, S]`.

        A model's figures do not depend, by a bit, on the other models or on the threads; of one
        whose weights are not finite they are nan.
        """
        with torch.no_grad(), torch_threads(self.threads):
            found: Sequence[tuple[float, float]]
            if self._program is not None:
                parts = rows.split(self.models)
                found = [f for part in parts for f in self._program(part, self.samples)]
            else:
                assert self._module is not None
                found = [self._module.evaluate(row, self.samples) for row in rows]
        figures = torch.tensor(found, dtype=torch.float64).reshape(-1, 2)
        # What such a model predicts is an accident of how the largest of NaN is found.
        figures[~rows.isfinite().all(1).cpu()] = torch.nan
        accuracies, losses = figures.T
        return accuracies, losses

    def _native(self, x: Tensor) -> bool:
        like = x.new_empty(0, dtype=self.layout.dtype)  # of tokens the module's does not follow
        return registry.capabilities(self.backend, like).plans
