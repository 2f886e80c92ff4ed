"""`MeanLosses`: mean losses and gradients of K models, each on all of its samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ...copies import copy_of
from ...data.samples import Samples, as_samples
from ...layout import FlatLayout
from ...random_state import kept_random_state
from ...torch_settings import usual_modes
from ...validation.values import Count
from ...worker_pool import WorkerPool
from ..accuracy import Loss
from ..hessian.module_product import loss_at
from ..hessian.product import criterion_of, samples_of_each
from ..loss_weights import weight_of


class MeanLosses:
    """The mean loss `L_k(w)` of each of K models of one architecture, as a function of weights.

    losses = MeanLosses(model, (x, y))
    sam_sharpness(losses, rho=0.05)         # [1]

    model   nn.Module, in evaluation mode: dropout off, batch normalisation by running statistics
    data    samples or (x, y) that all models share; a list of them: one for each model
    rows    `[K, S]`, flat weights of K models; None: those that `model` has
    layout  of the rows, None: `FlatLayout.of(model)`
    loss    "cross_entropy", or (outputs, targets) -> scalar mean over the batch
    batch   samples that go through the model together; sums over batches are float64
    Threads take whole models, each on one intra-operation thread: a model's figures do not depend,
    by a bit, on the other models or on the number of threads.
    Raises ValueError/TypeError naming what is unfit.
    """

    def __init__(
        self,
        model: nn.Module,
        data: object,
        *,
        rows: Tensor | None = None,
        layout: FlatLayout | None = None,
        loss: Loss | str = "cross_entropy",
        batch: int = 500,
    ) -> None:
        self.layout = FlatLayout.of(model) if layout is None else layout
        rows = self.layout.flatten(model)[None] if rows is None else rows
        given = data if isinstance(data, list) else [data] * len(rows)
        samples = [as_samples(own, "data") for own in given]
        self.samples = samples_of_each(self.layout, rows, samples)
        Count()("batch", batch)
        self.loss, self.batch = criterion_of(loss), batch
        self.rows = rows.detach().double()
        self._pool = WorkerPool(min(torch.get_num_threads(), len(rows)))
        self._modules = [copy_of(model).eval() for _ in range(self._pool.workers)]

    def __len__(self) -> int:
        """K."""
        return len(self.rows)

    def values(self, rows: Tensor) -> Tensor:
        """Mean losses `[K]` float64 at rows `[K, S]`, rounded to the models' dtype.

        NaN where the loss ignores all targets of a model (`ignore_index`).
        """
        found = torch.empty(len(self), dtype=torch.float64)

        def of_model(module: nn.Module, k: int) -> None:
            with torch.no_grad():
                terms = [share * value for share, value, _ in self._parts(module, k, rows[k])]
                found[k] = sum(terms) if terms else torch.nan

        self._each(of_model)
        return found

    def gradients(self, rows: Tensor) -> Tensor:
        """Gradients of the mean losses `[K, S]` float64, zero in padding and buffers."""
        found = torch.zeros_like(self.rows)

        def of_model(module: nn.Module, k: int) -> None:
            views = self.layout.views(found[k], trained_only=True)
            for share, value, leaves in self._parts(module, k, rows[k]):
                grads = torch.autograd.grad(
                    value, list(leaves.values()), allow_unused=True, materialize_grads=True
                )
                for name, grad in zip(leaves, grads, strict=True):
                    views[name].add_(grad.double(), alpha=share)

        self._each(of_model)
        return found

    def _parts(
        self, module: nn.Module, k: int, row: Tensor
    ) -> Iterator[tuple[float, Tensor, dict[str, Tensor]]]:
        """Of each batch: its share of the mean, its own mean loss, the parameters."""
        samples, row = self.samples[k], row.to(self.layout.dtype)
        parts: list[Samples] = [
            samples.take(slice(start, start + self.batch))
            for start in range(0, len(samples), self.batch)
        ]
        weights = [float(weight_of(self.loss, part.y)) for part in parts]
        for weight, part in zip(weights, parts, strict=True):
            if weight:  # a mean over nothing is nan
                value, leaves = loss_at(module, self.layout, self.loss, row, part)
                yield weight / sum(weights), value.double(), leaves

    def _each(self, of_model: Callable[[nn.Module, int], None]) -> None:
        turns = itertools.count()

        def work(worker: int) -> None:
            with usual_modes():
                while (k := next(turns)) < len(self):
                    of_model(self._modules[worker], k)

        with kept_random_state():
            self._pool.each(work)
