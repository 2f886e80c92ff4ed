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
from ..batches import ChunkBatches, Minibatch
from ..executor import Capabilities, Executor, Fold, LocalStep, SamAscent, StepTensors
from ..layout import FlatLayout
from ..programs import ProgramExecutor
from .batches import BatchBuffers
from .options import Options
from .rates import Rates
from .updates import HeavyBall


def kinds_kept(optimizer: Optimizer) -> tuple[str, ...]:
    """The rows that an optimizer keeps from step to step."""
    return ("momentum",) if optimizer.momentum else ()


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
        plain     the gradient is written, `kernels.step` follows
    """

    def __init__(self, rows: Tensor, layout: FlatLayout, options: Options, rates: Rates) -> None:
        self.rows, self.layout, self.options, self.rates = rows, layout, options, rates
        self.w, self.optimizer = rows[:, : layout.trained], options.optimizer
        count, device = rows.shape[0], rows.device
        self.losses = torch.zeros(count, dtype=layout.dtype, device=device)
        rates.hold(layout.dtype, device)
        one, none = torch.ones(count, 1, dtype=torch.int32), torch.empty(count, 1, 0)
        self._counts = ChunkBatches(0, np.arange(count), none, one)
        self.kept = {kind: self._bank() for kind in kinds_kept(self.optimizer)}

    def step(self, width: Width, batch: Minibatch) -> Tensor:
        """One step of all models on a batch in the buffers of `width`; the losses [K] before it."""
        self.rates.refresh()
        can = width.executor.capabilities
        fused = can.sam and type(self.optimizer) is SAM
        if self.optimizer.ascends and not fused:
            folds = self._ascended(width.executor, batch)
        else:
            folds = self._at_once(width, batch, fused)
        if not folds:
            self._descend()
        width.executor.count_batches(self.rows, self._counts)
        return self.losses.clone()

    def _at_once(self, width: Width, batch: Minibatch, ascends: bool) -> bool:
        """The gradient by one call; whether it was folded."""
        key = batch.x.data_ptr(), self.rates.decays
        call = width.calls.get(key)
        step, out = self._last(width.executor.capabilities)
        if call is None:
            step = replace(step, ascent=self._sam if ascends else None)
            tensors = StepTensors(self.w, self.rows, out, self.losses)
            if batch.seeds is None and isinstance(width.executor, ProgramExecutor):
                call = width.calls[key] = width.executor.repeated(step, tensors, batch)
            else:
                call = partial(width.executor.gradients, step, tensors, batch)
        call()
        return step.fold is not None

    def _last(self, can: Capabilities) -> tuple[LocalStep, Tensor]:
        """The pass whose gradient is the step's, and what it writes."""
        rates, momentum = self.rates, self.optimizer.momentum
        if not can.folds or self.optimizer.nesterov:
            return LocalStep(), self._g
        if not momentum:
            return LocalStep(fold=Fold(rates.descent, rates.decayed, self.w)), self.w
        m, decay = self.kept["momentum"], rates.decay if rates.decays else None
        update = HeavyBall(self.w, m, rates.descent, decay)
        return LocalStep(fold=Fold(1.0, momentum, m), update=update), m

    def _ascended(self, executor: Executor, batch: Minibatch) -> bool:
        """Two passes, with the ascent between them; losses and statistics are the first one's.

        Whether the second was folded.
        """
        local, rows, backend = self.optimizer, self.rows, self.options.backend
        step, out = self._last(executor.capabilities)
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
        tensors = StepTensors(self._ahead, rows, out, self._spare)
        executor.gradients(replace(step, keep_buffers=True), tensors, batch)
        return step.fold is not None

    def _descend(self) -> None:
        kernels.step(
            self.w,
            self._g,
            self.rates.eta,
            weight_decay=self.rates.decay,
            momentum=self.optimizer.momentum,
            nesterov=self.optimizer.nesterov,
            m=self.kept.get("momentum"),
            backend=self.options.backend,
        )

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
