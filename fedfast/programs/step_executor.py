"""Forward, loss and backward of one local step of a layer program.

Buffers that only some steps need (SAM's factors, the clip's) are made by the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from .. import kernels
from ..algorithms.layer_radii import LayerRadii
from ..algorithms.objective import Bottleneck, Divergence
from ..batches import Minibatch
from ..executor import (
    ClipBound,
    Fold,
    LocalStep,
    RowAscent,
    SamAscent,
    ScaledAscent,
    StepTensors,
)
from ..layout import FlatLayout
from ..phases import phase
from .addends import Addends
from .bottleneck import BottleneckPass
from .clip import Clip, Corrected
from .context import BatchContext
from .grad_norms import GradNorms
from .passes import DivergencePass, cross_entropy
from .program import BufferSpec, Program
from .records import Record
from .sam import SamBuffers
from .workspace import Workspace


class StepExecutor:
    """Runs steps of `program` in buffers of the size `spec`.

    norms  whether the backend's products write the squares of their gradients
    """

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        spec: BufferSpec,
        backend: str,
        precision: str,
        norms: bool,
    ) -> None:
        self.program, self.layout, self.spec = program, layout, spec
        self.backend, self.precision, self.norms = backend, precision, norms
        self.workspace = Workspace(program, layout, spec)

    @property
    def _sam_sizes(self) -> tuple[Program, FlatLayout, BufferSpec, str, bool]:
        return self.program, self.layout, self.spec, self.precision, self.norms

    @cached_property
    def _sam(self) -> SamBuffers:
        return SamBuffers(*self._sam_sizes)

    @cached_property
    def _scaled(self) -> SamBuffers:
        return SamBuffers(*self._sam_sizes, scaled=True)

    @cached_property
    def _spare(self) -> Tensor:
        """Losses that nobody reads."""
        return self.spec.zeros(dtype=self.layout.dtype)

    @cached_property
    def _divergence(self) -> DivergencePass:
        return DivergencePass(self.program, self.layout, self.spec)

    @cached_property
    def bottleneck(self) -> BottleneckPass:
        """Of a program with a head."""
        return BottleneckPass(self.program, self.layout, self.spec)

    def add_up(self, objective: Bottleneck, batch: Minibatch) -> None:
        """See `BottleneckPass.add_up`."""
        program, clients = self.program, batch.x.shape[0]
        h = self.workspace.values[program.root(program.output)][:clients]
        shape = *batch.x.shape[:2], *program.shapes[program.output]
        self.bottleneck.add_up(h.view(shape), objective, batch, self.backend)

    @cached_property
    def _clip(self) -> Clip:
        return Clip(self.program, self.layout, self.spec)

    @cached_property
    def _addends(self) -> Addends:
        return Addends(self.program, self.layout)

    @cached_property
    def grad_norms(self) -> GradNorms:
        """Where products write the squares of all gradients."""
        return GradNorms(self.program, self.layout, self.spec)

    def adds_in_products(self, fold: Fold) -> bool:
        """Whether nothing reads the addend but products that store new weights."""
        return fold.bound is None and not self._addends.spans

    def run(self, step: LocalStep, tensors: StepTensors, batch: Minibatch) -> None:
        """The gradient, or the step folded into it; see `executor.Executor.gradients`."""
        ascent = step.ascent
        if ascent is None:
            buffers = None if step.keep_buffers else tensors.buffers
            context = self._context(tensors, batch, tensors.out, buffers)
            if self.program.head is not None:
                own = step.objective if isinstance(step.objective, Bottleneck) else None
                self.bottleneck.run(context, own, tensors.losses)
                return
            if isinstance(step.objective, Divergence):
                self._divergence.run(context, step.objective)
                return
            self._last(context, step, self.program.records, tensors.losses)
        elif isinstance(ascent, SamAscent):
            g = ascent.g[: batch.x.shape[0]]
            self._first(self._sam, replace(tensors, out=g), batch)
            with phase("perturb"):
                self._sam.reach(g, ascent, self.backend)
            self._second(self._sam, ascent, step, tensors, batch)
        elif isinstance(ascent, RowAscent):
            self._ascended(ascent, step, tensors, batch)
        else:
            self._second(self._scaled, ascent, step, tensors, batch)
        if step.update is not None:
            with phase("step"):
                step.update.apply(self.backend)

    def first_pass(self, tensors: StepTensors, batch: Minibatch) -> None:
        """The first pass where every tensor has a scale of its own."""
        self._first(self._scaled, tensors, batch)
        with phase("perturb"):
            self._scaled.measure(tensors.out, self.backend)

    def _squares(self, clients: int) -> tuple[Tensor, Tensor]:
        """[K, n] float64 whose sum over all n is |g|^2 of the first pass's gradient."""
        sam = self._scaled
        written = sam.grad_norms
        others = sam.others.squares(clients) if written is None else written.squares[:clients]
        return sam.squares[:clients], others

    def square(self, clients: int) -> Tensor:
        """|g|^2 [K] float64 of the first pass's gradient."""
        factors, others = self._squares(clients)
        return factors.sum(1) + others.sum(1)

    def reach(self, radii: LayerRadii, clients: int) -> None:
        """Set the scale of each trained tensor for the next `ScaledAscent`, after a first pass."""
        squares: Sequence[Tensor] = self._squares(clients)
        if self.spec.device.type == "cpu":  # whose runs have torch's order of additions
            squares = [self.square(clients)[:, None]]
        rho, eps, limit = radii.rho.to(self.layout.dtype), radii.eps, radii.limit
        out = self._scaled.scales[:, :clients]
        kernels.layer_reach(rho, squares, eps, limit=limit, out=out, backend=self.backend)

    def scale(self, scales: Tensor) -> None:
        """Set the scale of each trained tensor, `[K, L]`, for the next `ScaledAscent`."""
        self._scaled.scales[:, : len(scales)] = scales.T

    def _ascended(
        self, ascent: RowAscent, step: LocalStep, tensors: StepTensors, batch: Minibatch
    ) -> None:
        """At the point that operations on rows write; losses and running statistics are those of
        the first gradient that is taken."""
        clients, buffers, losses = batch.x.shape[0], tensors.buffers, tensors.losses
        if ascent.g is not None:
            context = self._context(tensors, batch, ascent.g[:clients], buffers)
            cross_entropy(context, self.program.records, losses)
            losses = self._spare[:clients]
        with phase("perturb"):
            ascent.first.apply(self.backend)
        there = replace(tensors, w=ascent.ahead[:clients])
        kept = None if ascent.g is not None else buffers
        context = self._context(there, batch, tensors.out, kept)
        self._last(context, step, self.program.records, losses)

    def _first(self, sam: SamBuffers, tensors: StepTensors, batch: Minibatch) -> None:
        context = self._context(tensors, batch, tensors.out, tensors.buffers)
        context.sam, context.grad_norms = sam, sam.grad_norms
        cross_entropy(context, sam.first, tensors.losses)

    def _second(
        self,
        sam: SamBuffers,
        ascent: SamAscent | ScaledAscent,
        step: LocalStep,
        tensors: StepTensors,
        batch: Minibatch,
    ) -> None:
        """At the perturbed model; losses and running statistics are the first pass's."""
        clients = batch.x.shape[0]
        g, ahead = ascent.g[:clients], ascent.ahead[:clients]
        with phase("perturb"):
            sam.move(tensors.w, g, ahead, self.backend)
        context = self._context(tensors, batch, tensors.out, None)
        context.sam, context.ahead = sam, ahead
        self._last(context, step, sam.second, sam.losses[:clients])

    def _last(
        self, context: BatchContext, step: LocalStep, records: Sequence[Record], losses: Tensor
    ) -> None:
        """The pass whose gradient is the step's; where that is clipped, the step follows it."""
        context.grad_norms = self.grad_norms if step.norms else None
        fold = step.fold
        if fold is not None and fold.bound is not None:
            self._clipped(context, fold, fold.bound, records, losses)
            return
        context.fold = fold
        cross_entropy(context, records, losses)
        if fold is not None and fold.addend is not None:
            self._addends.join(context.g, fold.addend, fold.alpha, self.backend)

    def _clipped(
        self,
        context: BatchContext,
        fold: Fold,
        bound: ClipBound,
        records: Sequence[Record],
        losses: Tensor,
    ) -> None:
        clip, out, g = self._clip, context.g, bound.g[: context.clients]
        if fold.addend is not None and not fold.known:
            clip.measure_addend(fold.addend, self.backend)
        cross_entropy(replace(context, g=g, clip=clip), records, losses)
        if fold.addend is not None:
            to, parts = Corrected(fold.addend, bound.limit), self.workspace.views(fold.addend)
            clip.correct(context, parts, g, to)
        scale = clip.scale_of(bound, fold, context.clients, self.backend)
        late = replace(context, fold=replace(fold, alpha=scale))
        for record in clip.layers:
            record.update(late)
        clip.move(fold.base, g, fold.beta, scale, out, self.backend)

    def _context(
        self, tensors: StepTensors, batch: Minibatch, g: Tensor, buffers: Tensor | None
    ) -> BatchContext:
        how = self.workspace, self.backend, self.precision
        return BatchContext(*how, batch, tensors.w, buffers, g)
