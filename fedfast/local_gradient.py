"""A local step's gradient: at the clients' models, or where their optimizer ascends to.

[g = gradient(w);  ahead = ascent(w, g);]  g = gradient(ahead or w)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from . import kernels
from .algorithms import Algorithm
from .algorithms._hook_checks import depth, overrides
from .algorithms.hooks import Clients
from .algorithms.objective import Objective
from .algorithms.optimizers import SAM, SCALES, Optimizer
from .batches import Minibatch
from .executor import (
    Executor,
    Fold,
    LocalStep,
    RowAscent,
    SamAscent,
    ScaledAscent,
    StepTensors,
)
from .fusion_rules import Fusions
from .live_buffers import ActiveRows, LiveBuffers
from .lr_schedules import at_round
from .phases import phase
from .row_updates import PlannedAscent, StepCoefficients


class LocalGradient:
    """Takes the gradients of one run's steps, in as few passes as its `fusions` allow."""

    def __init__(
        self, algorithm: Algorithm, executor: Executor, live: LiveBuffers, fusions: Fusions
    ) -> None:
        self.local = local = algorithm.local
        self.executor, self.live, self.fusions = executor, live, fusions
        # Asked at every step: what the class of the optimizer decides is decided once.
        self._own_loss, self._looks = overrides(local, "objective", Optimizer), local.looks
        # A class that has both scales and, below them, `ascend` means the scales.
        radii, scales, ascend = (depth(local, name) for name in (*SCALES, "ascend"))
        older = local.layered and min(radii, scales) < ascend
        self._ascend = partial(Optimizer.ascend, local) if older else local.ascend
        self._by_radii = overrides(local, "radii", Optimizer) and radii <= scales
        self._coefficients = StepCoefficients(live.losses)
        self._plain = LocalStep(norms=fusions.norms)

    def take(self, at: Clients, batch: Minibatch, out: Tensor, fold: Fold | None = None) -> None:
        """The gradient `[K, trained]` into `out`, or the step that is folded into it."""
        rows = self.live.active(len(at))
        step, objective = self._plain, self._objective(at, first=False)
        if fold is not None or objective is not None:
            step = LocalStep(fold=fold, norms=self.fusions.norms, objective=objective)
        if at.ahead is None:
            tensors = StepTensors(at.w, rows.models, out, rows.losses)
            self.executor.gradients(step, tensors, batch)
        elif self.fusions.sam or self.fusions.scaled:
            ascent = self.sam(at) or self._scaled(at, batch, rows)
            tensors = StepTensors(at.w, rows.models, out, rows.losses)
            self.executor.gradients(replace(step, ascent=ascent), tensors, batch)
        else:
            self._ascended(at, batch, out, step, rows)

    def sam(self, at: Clients) -> SamAscent | None:
        """SAM's radius and workspace, where both of its passes are one call."""
        local = self.local
        if not self.fusions.sam or at.ahead is None or not isinstance(local, SAM):
            return None
        rho, rows = at.of_round(local.rho, wide=True), (local.eps, at.g, at.ahead)
        return SamAscent(0.0, *rows, rho) if isinstance(rho, Tensor) else SamAscent(rho, *rows)

    def radius(self, t: int) -> float | None:
        """That of SAM's in round `t`, where both of its passes are one call."""
        if not (self.fusions.sam and isinstance(self.local, SAM)):
            return None
        return at_round(self.local.rho, t)

    def recorded(self, at: Clients) -> PlannedAscent | None:
        """The optimizer's ascent, begin and end, where those are operations that a plan repeats."""
        if not self.fusions.ascent:
            return None
        found = self.local.recorded(at, self.live.active(len(at)).w)
        return None if found is None else self._coefficients.placed(found, len(at))

    def at_once(self, recorded: PlannedAscent | None) -> bool:
        """Whether all steps are one call, given what the optimizer said of its ascent."""
        return not self.local.ascends or self.fusions.sam or recorded is not None

    def ascent(self, at: Clients, recorded: PlannedAscent | None) -> SamAscent | RowAscent | None:
        """Where steps that are one call take their gradients."""
        if recorded is None or at.ahead is None:
            return self.sam(at)
        g, lanes = recorded.g, [at.ahead, *recorded.lanes]
        if self._looks and g is None:
            g = at.g
            lanes.append(g)
        return RowAscent(recorded.first, recorded.later, g, at.ahead, lanes)

    def _scaled(self, at: Clients, batch: Minibatch, rows: ActiveRows) -> ScaledAscent:
        """A first pass, and what the second makes of its norms."""
        assert at.ahead is not None
        tensors = StepTensors(at.w, rows.models, at.g, rows.losses)
        radii = self.local.radii(at) if self._by_radii else None
        length = self.executor.first_pass(tensors, batch, radii)
        scales = None if length is None else self.local.scales(at, length)
        return ScaledAscent(scales, at.g, at.ahead)

    def _ascended(
        self, at: Clients, batch: Minibatch, out: Tensor, step: LocalStep, rows: ActiveRows
    ) -> None:
        """The gradient at `ahead`, which the optimizer writes between two calls."""
        assert at.ahead is not None
        losses, spare = rows.losses, rows.spare
        first = None
        if self._looks:
            first = at.g if at.first is None else at.first
            objective = self._objective(at, first=True)
            if objective is not None:  # another loss, which is not the one on record
                losses, spare = spare, losses
            tensors = StepTensors(at.w, rows.models, first, losses)
            self.executor.gradients(LocalStep(objective=objective), tensors, batch)
            # The loss on record and the running statistics are the model's own: the second pass
            # leaves both alone.
            step, losses = replace(step, keep_buffers=True), spare
        with phase("perturb"):
            self._ascend(at, first, at.ahead)
        self.executor.gradients(step, StepTensors(at.ahead, rows.models, out, losses), batch)

    def _objective(self, at: Clients, first: bool) -> Objective | None:
        """The algorithm's own loss, of the first pass or of the step's."""
        return self.local.objective(at, first) if self._own_loss else None

    def over_all(
        self, at: Clients, batches: Iterable[Minibatch], counts: Iterable[Tensor]
    ) -> Tensor:
        """The mean loss over all local samples at `w`, [K] float64; `at.scratch["full"]`, where
        there is one, receives its gradient.

        batches  of the first clients, those that are not done; counts: samples of each that count
        """
        full = at.scratch.get("full")
        if full is not None:
            full.zero_()
        loss = torch.zeros_like(at.sizes)
        for count, batch in zip(counts, batches, strict=True):
            n = len(count)
            rows, g, share = self.live.active(n), at.g[:n], count.to(loss) / at.sizes[:n]
            tensors = StepTensors(at.w[:n], rows.models, g, rows.spare)
            self.executor.gradients(LocalStep(keep_buffers=True), tensors, batch)
            loss[:n] += share * rows.spare.double()
            if full is not None:
                kernels.step(full[:n], [(g, share)], -1.0, out=full[:n], backend=at.backend)
        return loss
