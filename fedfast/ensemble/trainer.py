"""One optimizer step of K models, in as few passes and calls as the executor allows."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from .. import kernels
from ..algorithms import ASAM, SAM, Optimizer
from ..batches import Minibatch
from ..executor import Capabilities, Executor, Fold, LocalStep, SamAscent, StepTensors
from .options import Options
from ..layout import FlatLayout
from .rates import Rates
from .updates import HeavyBall


def kinds_kept(optimizer: Optimizer) -> tuple[str, ...]:
    """The rows that an optimizer keeps from step to step."""
    return ("momentum",) if optimizer.momentum else ()


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
        self.kept = {kind: self._bank() for kind in kinds_kept(self.optimizer)}

    def step(self, executor: Executor, batch: Minibatch) -> Tensor:
        """One step of all models; their losses [K], before it."""
        self.rates.refresh()
        can = executor.capabilities
        step, out = self._last(can)
        fused = can.sam and type(self.optimizer) is SAM
        if not self.optimizer.ascends or fused:
            ascent = self._sam if fused else None
            tensors = StepTensors(self.w, self.rows, out, self.losses)
            executor.gradients(replace(step, ascent=ascent), tensors, batch)
        else:
            self._ascended(executor, batch, step, out)
        if step.fold is None:
            self._descend()
        return self.losses.clone()

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

    def _ascended(
        self, executor: Executor, batch: Minibatch, step: LocalStep, out: Tensor
    ) -> None:
        """Two passes, with the ascent between them; losses and statistics are the first one's."""
        local, rows, backend = self.optimizer, self.rows, self.options.backend
        assert isinstance(local, SAM)
        tensors = StepTensors(self.w, rows, self._g, self.losses)
        executor.gradients(LocalStep(), tensors, batch)
        how: dict[str, object] = dict(out=self._ahead, eps=local.eps, backend=backend)
        if isinstance(local, ASAM):
            how |= dict(segments=self.layout.segments(rows.device), adaptive=local.eta)
        kernels.perturb(self.w, self._g, self.rates.radius, **how)
        tensors = StepTensors(self._ahead, rows, out, self._spare)
        executor.gradients(replace(step, keep_buffers=True), tensors, batch)

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
