"""Products with the Hessian by torch's double backward: any module, one model after another.

    g = d loss / dw,    H v = d <g, v> / dw

(Pearlmutter 1994, "Fast exact multiplication by the Hessian".)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...copies import copy_of
from ...data import Samples
from ...layout import FlatLayout
from ...random_state import kept_random_state, same, seed_all, states
from ...torch_settings import usual_modes
from ...worker_pool import WorkerPool
from ..accuracy import Loss
from ..loss_weights import weight_of
from .batch_statistics import normalise_by_batches

NO_DERIVATIVE = "is not implemented"  # torch's words for an operation without one
SEED = 0  # of modules that draw random numbers in evaluation: every product draws the same


class ModuleProduct:
    """`product.HessianProduct` of any module whose loss has second derivatives.

    loss     (outputs, targets) -> scalar mean over the batch
    samples  of each model
    batch    samples that go through the module together
    by_batch whether norms take these samples' statistics, see `batch_statistics.py`
    Threads take whole models, each on one intra-operation thread. Calls raise ValueError for models
    or losses without second derivatives.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: FlatLayout,
        loss: Loss,
        rows: Tensor,
        samples: Sequence[Samples],
        batch: int,
        by_batch: bool = False,
    ) -> None:
        self.layout, self.loss, self.rows = layout, loss, rows.detach().clone()
        self.samples, self.batch = list(samples), batch
        self.models, self.trained, self.stride = len(rows), layout.trained, layout.stride
        threads = 1 if self._draws(module) else min(torch.get_num_threads(), self.models)
        self._pool = WorkerPool(threads)
        self._modules = [copy_of(module).eval() for _ in range(self._pool.workers)]
        if by_batch:
            self._modules = list(map(normalise_by_batches, self._modules))

    def _draws(self, module: nn.Module) -> bool:
        """Whether it draws random numbers in evaluation: there is one generator for all threads."""
        with kept_random_state(), torch.no_grad():
            before = states()
            x = self.samples[0].take(slice(0, 2)).inputs(self.layout.dtype)
            functional_call(copy_of(module).eval(), self.layout.tensors(self.rows[0].clone()), (x,))
            return not same(before, states())

    def __call__(
        self, v: Tensor, *, out: Tensor | None = None, active: Sequence[bool] | None = None
    ) -> Tensor:
        """See `product.HessianProduct`."""
        check_vectors(v, self.rows)
        out = torch.zeros_like(self.rows) if out is None else out.zero_()
        turns = itertools.count()

        def work(worker: int) -> None:
            with usual_modes():
                while (k := next(turns)) < self.models:
                    if active is None or active[k]:
                        self._model(self._modules[worker], k, v[k], out[k])

        with kept_random_state():
            self._pool.each(work)
        return out

    def _model(self, module: nn.Module, k: int, v: Tensor, out: Tensor) -> None:
        samples, parts = self.samples[k], []
        for start in range(0, len(samples), self.batch):
            part = samples.take(slice(start, start + self.batch))
            weight = float(weight_of(self.loss, part.y))
            parts.append((weight, self._part(module, self.rows[k], part, v)))
        views, total = self.layout.views(out), sum(weight for weight, _ in parts)
        for name in parts[0][1]:
            joined = torch.zeros_like(views[name], dtype=torch.float64)
            for weight, found in parts:  # a mean over nothing is no number
                joined += found[name].double() * (weight / total) if weight else 0.0
            views[name].copy_(joined if total else joined * torch.nan)

    def _part(self, module: nn.Module, row: Tensor, part: Samples, v: Tensor) -> dict[str, Tensor]:
        """The product of one batch's mean loss, by name."""
        value, held = loss_at(module, self.layout, self.loss, row, part)
        learns, leaves = zip(*held.items(), strict=True)
        grad = partial(torch.autograd.grad, allow_unused=True, materialize_grads=True)
        first = grad(value, leaves, create_graph=True)
        along = self.layout.views(v, trained_only=True)
        terms = [(g * along[name]).sum() for name, g in zip(learns, first, strict=True)]
        inner = torch.stack(terms).sum()
        if not inner.requires_grad:  # the loss is linear in all parameters
            return {name: torch.zeros_like(leaf) for name, leaf in held.items()}
        try:
            return dict(zip(learns, grad(inner, leaves), strict=True))
        except RuntimeError as error:
            if NO_DERIVATIVE not in str(error):
                raise
            raise ValueError(f"model: expected one with second derivatives; {error}") from error


def loss_at(
    module: nn.Module, layout: FlatLayout, loss: Loss, row: Tensor, part: Samples
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss of one batch at `row` [S], and the parameters by name, leaves of its graph."""
    seed_all(SEED)
    tensors = layout.tensors(row.clone())  # modules may write into what they are given
    learns = layout.views(row, trained_only=True)
    leaves = {name: tensors[name].detach().requires_grad_() for name in learns}
    outputs = functional_call(module, {**tensors, **leaves}, (part.inputs(layout.dtype).clone(),))
    value: Tensor = loss(outputs, part.y)
    return value, leaves


def check_vectors(v: Tensor, rows: Tensor) -> None:
    """Raise for vectors v that do not belong to the models `rows` [K, S]."""
    if v.shape != rows.shape:
        raise ValueError(f"v: expected {list(rows.shape)}; got {list(v.shape)}")
    if v.dtype != rows.dtype or v.device != rows.device:
        expected, found = f"{rows.dtype} on {rows.device}", f"{v.dtype} on {v.device}"
        raise TypeError(f"v: expected {expected}; got {found}")
