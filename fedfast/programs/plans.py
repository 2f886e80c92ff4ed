"""Plans of a layer program: recorded the first time a step meets its buffers, run from then on.

A key is made of the buffers and numbers that a step was given. A learning rate that changes from
round to round makes new keys, so only the latest plans are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import kernels
from ..algorithms.objective import Bottleneck, Divergence, Objective
from ..executor import Fold, LocalStep, RowAscent, SamAscent, ScaledAscent
from ..input_pipeline import SampleSource
from ..kernels import Plan
from ..kernels._args import Coefficient

LATEST = 16


@dataclass(frozen=True)
class RecordedPlan:
    """A plan and the number of clients it was recorded for: it serves fewer as well."""

    plan: Plan
    clients: int


class PlanCache:
    """The latest plans of one executor; `work` is what a client's step takes, in numbers."""

    def __init__(self, work: int) -> None:
        self.work = work
        self._plans: dict[Hashable, RecordedPlan] = {}

    def plan(self, key: Hashable, clients: int, body: Callable[[], None]) -> Plan:
        """The plan of `body`, which is recorded unless it was before."""
        recorded = self._plans.get(key)
        if recorded is None or recorded.clients < clients:
            with Plan() as plan:
                body()
            if len(self._plans) >= LATEST:
                del self._plans[next(iter(self._plans))]
            recorded = self._plans[key] = RecordedPlan(plan, clients)
        return recorded.plan


class ChunkBuffers:
    """Where a chunk's batches lie while plans run: all of them, and that of the step at hand.

    rows   [n, B], count [n], of all steps, packed
    now    [K, B], the rows of the step at hand, and batch: their samples
    total  [2, K] float64, the summed losses: times the samples of each step; once a step
    ones   [K], what a step counts for in the second
    """

    def __init__(self, source: SampleSource, clients: int, rows: Tensor) -> None:
        lines, width = rows.shape
        self.rows, self.now = torch.empty_like(rows), rows.new_empty(clients, width)
        self.count = torch.empty(lines, dtype=torch.int32)
        self.batch = source.buffers(clients, width)
        self.batch.count.zero_()
        self.total = torch.zeros(2, clients, dtype=torch.float64)
        self.ones = torch.ones(clients, dtype=torch.int32)

    def holds(self, clients: int, rows: Tensor) -> bool:
        """Whether these fit."""
        lines, width = rows.shape
        fits = clients <= self.now.shape[0] and lines <= self.rows.shape[0]
        return fits and width == self.rows.shape[1]

    @property
    def counted(self) -> kernels.Counted:
        """How many samples of each batch count."""
        return kernels.Counted(self.count, self.rows.shape[1])

    def tally(self, losses: Tensor) -> None:
        """In a plan: the losses of the step at hand added up."""
        kernels.tally(losses, self.batch.count[: len(losses)], self.total[0])
        kernels.tally(losses, self.ones[: len(losses)], self.total[1])

    def fetch(self, source: SampleSource) -> None:
        """In a plan: the batch of the step at hand."""
        kernels.feed(self.rows, self.count, self.now, self.batch.count)
        source.read(self.now, self.batch)


def place(*tensors: Tensor) -> tuple[int, ...]:
    """Where `[K, ...]` tensors lie."""
    return *(t.data_ptr() for t in tensors), *(t.stride(0) for t in tensors)


def ascent_key(ascent: SamAscent | ScaledAscent | RowAscent | None) -> tuple[Hashable, ...]:
    """The buffers and numbers of where the gradient is taken; scales are read from memory."""
    if ascent is None:
        return ()
    if isinstance(ascent, RowAscent):
        g = () if ascent.g is None else place(ascent.g)
        return "rows", *place(ascent.ahead), *g, *ascent.first.key
    where = place(ascent.g, ascent.ahead)
    if isinstance(ascent, SamAscent):
        rho = ascent.rho
        radii = () if ascent.radii is None else place(ascent.radii)
        own = place(rho) if isinstance(rho, Tensor) else (rho,)
        return "sam", *where, *own, ascent.eps, *radii
    return "scaled", *where


def folded_key(where: tuple[Hashable, ...], fold: Fold | None) -> Hashable:
    """`where` and the numbers of a folded step; None where a plan would not see them change."""
    if fold is None:
        return where
    numbers = _number(fold.alpha, fold.base), _number(fold.beta, fold.base)
    if None in numbers:
        return None
    bound = () if fold.bound is None else (fold.bound.norm, fold.bound.eps, *place(fold.bound.g))
    addend = () if fold.addend is None else (fold.known, *place(fold.addend))
    return (*where, *numbers, *place(fold.base), *bound, *addend)


def _number(value: Coefficient, rows: Tensor) -> Hashable:
    """A number, or the place of numbers [K] that operations read as they lie; else None."""
    if not isinstance(value, Tensor):
        return value
    read = value.shape == rows.shape[:1] and value.is_contiguous() and value.dtype == rows.dtype
    return ("at", *place(value)) if read else None


def step_key(where: tuple[Hashable, ...], step: LocalStep) -> Hashable:
    """What a step's plan is kept under, None for no plan."""
    after = () if step.update is None else step.update.key
    how = step.keep_buffers, *ascent_key(step.ascent), *after, *_objective_key(step.objective)
    return folded_key((*where, *how), step.fold)


def _objective_key(objective: Objective | None) -> tuple[Hashable, ...]:
    if isinstance(objective, Bottleneck):
        return "bottleneck", objective.beta, objective.noise.data_ptr()
    if not isinstance(objective, Divergence):
        return ()
    return *place(objective.sent), objective.temperature, objective.span
