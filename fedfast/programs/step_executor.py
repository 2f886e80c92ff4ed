"""Forward, loss and backward of one step: once, twice as SAM wants it, clipped or not.

Buffers that only some steps need (SAM's factors, the clip's) are made by the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from .. import kernels
from ..layout import FlatLayout
from ..module_executor import Minibatch
from .buffer_spec import BufferSpec
from .clip import Clip
from .context import BatchContext, Fold
from .grad_norms import GradNorms
from .plans import place
from .program import Program
from .records import Record
from .sam import SamBuffers
from .workspace import Workspace


@dataclass(frozen=True)
class SamStep:
    """SAM's radius, and workspace `[K, >= trained]` for the layers that need it."""

    rho: float
    eps: float
    g: Tensor
    ahead: Tensor

    @property
    def key(self) -> tuple[float, ...]:
        """What a plan must know of it."""
        return *place(self.g, self.ahead), self.rho, self.eps


class StepExecutor:
    """Passes over `program`, as large as `extent`.

    notes  whether products note the squares of their gradients
    """

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        spec: BufferSpec,
        backend: str,
        precision: str,
        notes: bool,
    ) -> None:
        self.program, self.layout, self.backend = program, layout, backend
        self.precision, self.notes = precision, notes
        self.workspace = Workspace(program, layout, spec)
        self.spec = spec

    @cached_property
    def _ascent(self) -> SamBuffers:
        return SamBuffers(self.program, self.layout, self.spec, self.notes)

    @cached_property
    def _layered(self) -> SamBuffers:
        return SamBuffers(self.program, self.layout, self.spec, self.notes, layered=True)

    @cached_property
    def _clip(self) -> Clip:
        return Clip(self.program, self.layout, self.spec)

    def grad_norms(self) -> GradNorms | None:
        """Room for the squares of all gradients; None in voices where they take a pass."""
        return GradNorms(self.program, self.layout, self.spec) if self.notes else None

    def once(
        self,
        banks: Sequence[Tensor],
        batch: Minibatch,
        keep_carried: bool,
        fold: Fold | None,
        grad_norms: GradNorms | None = None,
    ) -> None:
        """The gradient at w, or the step folded into it; banks: w, carried, out, losses."""
        w, carried, out, losses = banks
        about = w, carried, out, batch.x, batch.count, keep_carried, fold
        context = self._tape(*about, drawn=batch.seeds, grad_norms=grad_norms)
        self._last(context, self.program.records, batch, losses)

    def twice(
        self,
        banks: Sequence[Tensor],
        batch: Minibatch,
        sharp: SamStep,
        fold: Fold | None,
        grad_norms: GradNorms | None = None,
    ) -> None:
        """Both passes of SAM; banks: w, carried, out, losses."""
        w, carried, out, losses = banks
        g = sharp.g[: len(batch.x)]
        self._first(self._ascent, (w, carried, g, losses), batch)
        self._ascent.reach(g, sharp.rho, sharp.eps, self.backend)
        ahead = sharp.ahead[: len(batch.x)]
        self._second(self._ascent, (w, carried, out, g, ahead), batch, fold, grad_norms)

    def first_pass(self, banks: Sequence[Tensor], batch: Minibatch) -> None:
        """The first pass where every tensor has a scale; banks: w, carried, g, losses."""
        self._first(self._layered, banks, batch)
        self._layered.measure(banks[2], self.backend)

    def squares(self, clients: int) -> Tensor:
        """|g|^2 [K] float64 of the gradient that `look` has seen."""
        ascent = self._layered
        found = ascent.squares[:clients].sum(1)
        if ascent.grad_norms is not None:
            return found + ascent.grad_norms.squares[:clients].sum(1)
        return found + ascent.sums[:clients, :, kernels.Column.XX].sum(1)

    def scale(self, scales: Tensor) -> None:
        """Set the radius of each trained tensor, `[K, L]`, for the next `leap`."""
        self._layered.scales[:, : len(scales)] = scales.T

    def second_pass(
        self,
        banks: Sequence[Tensor],
        batch: Minibatch,
        fold: Fold | None,
        grad_norms: GradNorms | None = None,
    ) -> None:
        """The second pass after `look`; banks: w, carried, out, the g it has seen, ahead."""
        self._second(self._layered, banks, batch, fold, grad_norms)

    def _first(self, ascent: SamBuffers, banks: Sequence[Tensor], batch: Minibatch) -> None:
        w, carried, g, losses = banks
        about = w, carried, g, batch.x, batch.count, False, None, ascent
        context = self._tape(*about, drawn=batch.seeds, grad_norms=ascent.grad_norms)
        self._run(context, ascent.first, batch, losses)

    def _second(
        self,
        ascent: SamBuffers,
        banks: Sequence[Tensor],
        batch: Minibatch,
        fold: Fold | None,
        grad_norms: GradNorms | None,
    ) -> None:
        (w, carried, out, g, ahead), clients = banks, len(batch.x)
        ascent.move(w, g, ahead, self.backend)
        about = w, carried, out, batch.x, batch.count, True, fold, ascent, ahead
        context = self._tape(*about, drawn=batch.seeds, grad_norms=grad_norms)
        self._last(context, ascent.second, batch, ascent.losses[:clients])

    def _last(
        self, context: BatchContext, records: Sequence[Record], batch: Minibatch, losses: Tensor
    ) -> None:
        """The pass whose gradient is the step's; where that is clipped, the step follows it."""
        fold, clients = context.fold, len(batch.x)
        if fold is None or fold.bound is None:
            return self._run(context, records, batch, losses)
        clip, bound, out = self._clip, fold.bound, context.g
        g = bound.g[:clients]
        self._run(replace(context, g=g, fold=None, clip=clip), records, batch, losses)
        scale = clip.scale_of(bound, fold.alpha, clients, self.backend)
        late = replace(context, fold=replace(fold, alpha=scale))
        for record in clip.layers:
            record.update(late)
        clip.move(fold.base, g, fold.beta, scale, out, self.backend)

    def _run(
        self, context: BatchContext, records: Sequence[Record], batch: Minibatch, losses: Tensor
    ) -> None:
        """Forward, loss, backward."""
        for record in records:
            record.forward(context)
        logits, output = context.value(self.program.output), self.program.output
        kernels.cross_entropy(
            logits,
            batch.y,
            batch.count,
            losses=losses,
            dlogits=context.own_gradient(output),
            backend=self.backend,
        )
        for record in reversed(records):
            if context.needs(record.output):
                record.backward(context)
                context.settle()

    def _tape(self, *about: Any, **more: Any) -> BatchContext:
        return BatchContext(self.workspace, self.backend, self.precision, *about, **more)
