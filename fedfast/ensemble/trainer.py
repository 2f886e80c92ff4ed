"""One optimizer step of K models, in as few passes and calls as the executor allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..algorithms import ASAM, SAM, Optimizer
from ..batches import ChunkBatches, Minibatch, Packing
from ..executor import Executor, Fold, LocalStep, RowUpdate, SamAscent, StepTensors
from ..layout import FlatLayout
from .adam import Adam
from .batches import BatchBuffers
from .options import Options
from .rates import Rates
from .updates import AdamStep, HeavyBall, PlainStep


def kinds_kept(optimizer: Optimizer | Adam) -> tuple[str, ...]:
    """The rows that an optimizer keeps from step to step, by torch's names."""
    if isinstance(optimizer, Adam):
        return "exp_avg", "exp_avg_sq"
    return ("momentum_buffer",) if optimizer.momentum else ()


@dataclass(frozen=True)
class Descent:
    """The pass whose gradient is the step's, what it writes, and what follows apart from it."""

    step: LocalStep
    out: Tensor
    after: RowUpdate | None = None


@dataclass(frozen=True)
class Width:
    """What batches of one size B are trained with.

    calls  steps that only read and write buffers, by what tells them apart
    """

    executor: Executor
    buffers: BatchBuffers
    calls: dict[tuple[int, bool], Callable[[], None]] = field(default_factory=dict)


class Trainer:
    """K models' rows [K, S] and what their optimizer keeps.

    A step takes the gradient, at the models or where SAM ascends to, and descends:

        folded    products of the backward pass add to the weights (SGD), or to the momentum
        within    the gradient is written, the update follows model by model (Adam)
        apart     the gradient is written, the update follows for all models
    """

    def __init__(self, rows: Tensor, layout: FlatLayout, options: Options, rates: Rates) -> None:
        self.rows, self.layout, self.options, self.rates = rows, layout, options, rates
        self.w, self.optimizer = rows[:, : layout.trained], options.optimizer
        count, device = rows.shape[0], rows.device
        self.losses = torch.zeros(count, dtype=layout.dtype, device=device)
        rates.hold(layout.dtype, device)
        one, none = torch.ones(count, dtype=torch.int32), torch.empty(count, 0)
        packing = Packing.of(np.ones(count, dtype=np.int64))
        self._counts = ChunkBatches(0, np.arange(count), none, one, packing)
        self.kept = {kind: self._bank() for kind in kinds_kept(self.optimizer)}
        self._descents: dict[bool, Descent] = {}

    def step(self, width: Width, batch: Minibatch, t: int) -> Tensor:
        """Step t of all models on a batch in the buffers of `width`; the losses [K] before it."""
        self.rates.refresh(t)
        executor, fused = width.executor, self._fuses(width.executor)
        descent = self._descents.get(self.rates.decays)
        if descent is None:
            descent = self._descents[self.rates.decays] = self._descent(executor)
        if isinstance(self.optimizer, SAM) and not fused:
            self._ascended(executor, batch, descent)
        else:
            self._at_once(width, batch, descent, fused)
        if descent.after is not None:
            descent.after.apply(self.options.backend)
        executor.count_batches(self.rows, self._counts)
        return self.losses.clone()

    def _fuses(self, executor: Executor) -> bool:
        """Whether both of SAM's passes are one call."""
        return executor.capabilities.sam and type(self.optimizer) is SAM

    def _at_once(self, width: Width, batch: Minibatch, descent: Descent, ascends: bool) -> None:
        """All of it, but for what follows apart."""
        key = batch.x.data_ptr(), self.rates.decays
        call = width.calls.get(key)
        if call is None:
            step = replace(descent.step, ascent=self._sam if ascends else None)
            tensors = StepTensors(self.w, self.rows, descent.out, self.losses)
            if batch.seeds is None and width.executor.capabilities.updates:
                call = width.calls[key] = width.executor.repeated(step, tensors, batch)
            else:
                call = partial(width.executor.gradients, step, tensors, batch)
        call()

    def _descent(self, executor: Executor) -> Descent:
        local, rates, can = self.optimizer, self.rates, executor.capabilities
        if isinstance(local, Adam):
            m, v = self.kept.values()
            update: RowUpdate = AdamStep(local, self.w, self._g, m, v, rates)
            if can.updates:
                return Descent(LocalStep(update=update), self._g)
            return Descent(LocalStep(), self._g, update)
        if not can.folds or local.nesterov:
            update = PlainStep(local, self.w, self._g, self.kept.get("momentum_buffer"), rates)
            return Descent(LocalStep(), self._g, update)
        if not local.momentum:
            return Descent(LocalStep(fold=Fold(rates.descent, rates.decayed, self.w)), self.w)
        m = self.kept["momentum_buffer"]
        fold = Fold(1.0, local.momentum, m)
        return Descent(LocalStep(fold=fold, update=HeavyBall(self.w, m, rates)), m)

    def _ascended(self, executor: Executor, batch: Minibatch, descent: Descent) -> None:
        """Two passes, with the ascent between them; losses and statistics are the first one's."""
        local, rows, backend = self.optimizer, self.rows, self.options.backend
        assert isinstance(local, SAM)
        tensors = StepTensors(self.w, rows, self._g, self.losses)
        executor.gradients(LocalStep(), tensors, batch)
        adaptive = local.eta if isinstance(local, ASAM) else None
        kernels.perturb(
            self.w,
            self._g,
            self.rates.radius,
            out=self._ahead,
            segments=None if adaptive is None else self.layout.segments(rows.device),
            eps=local.eps,
            adaptive=adaptive,
            backend=backend,
        )
        tensors = StepTensors(self._ahead, rows, descent.out, self._spare)
        executor.gradients(replace(descent.step, keep_buffers=True), tensors, batch)

    @cached_property
    def _sam(self) -> SamAscent:
        local = self.optimizer
        assert isinstance(local, SAM)
        return SamAscent(self.rates.radius, local.eps, self._g, self._ahead)

    @cached_property
    def _g(self) -> Tensor:
        return self._bank()

    @cached_property
    def _ahead(self) -> Tensor:
        return self._bank()

    @cached_property
    def _spare(self) -> Tensor:
        return torch.zeros_like(self.losses)

    def _bank(self) -> Tensor:
        return self.layout.bank(self.rows.shape[0], self.rows.device, full=False)
