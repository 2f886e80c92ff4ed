"""Runs a layer program: K clients' gradients layer by layer, through fused operations.

Its buffers (`workspace.py`) are made once; a step makes none. Every operation works on whole
clients with a fixed batch width, so a client's bits do not depend on its company. What lies beyond
a client's count of samples adds nothing, and plans leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from .. import kernels
from ..algorithms.layer_radii import LayerRadii
from ..algorithms.objective import Bottleneck, Divergence
from ..batches import ChunkBatches, Minibatch
from ..executor import (
    Capabilities,
    Descent,
    Executor,
    Fold,
    LocalStep,
    RowAscent,
    RowUpdate,
    ScaledAscent,
    StepTensors,
)
from ..input_pipeline import SampleSource
from ..kernels import registry
from ..kernels.packing import Packed
from ..layout import FlatLayout
from ..phases import phase, timed
from ..row_updates import fills_of
from ..square_root import square_root
from ..transfers import sent_to
from .choices import chosen, products_of
from .elementwise import Dropout
from .plans import ChunkBuffers, PlanCache, ascent_key, folded_key, place, step_key
from .program import BufferSpec, Program
from .resident import resident_for
from .step_executor import StepExecutor


def capabilities_of(
    program: Program, layout: FlatLayout, backend: str, device: torch.device
) -> Capabilities:
    """What steps of `program` can fuse."""
    can = registry.capabilities(backend, torch.empty(0, dtype=layout.dtype, device=device))
    # A weight that several layers read must not move before the last of them has read it.
    alone = not layout.ties and not program.reuses
    if program.head is not None:  # whose gradients no record of the program forms
        repeats = alone and can.plans and all(record.repeats for record in program.records)
        return Capabilities(plans=repeats, graphs=device.type == "cuda" and can.graphs)
    return Capabilities(
        folds=alone,
        # Where products write squares the norm costs no pass, and a clip need not ride on the step.
        clips=alone and not can.squares_in_products,
        sam=True,
        norms=alone and can.squares_in_products,
        plans=alone and can.plans and all(record.repeats for record in program.records),
        graphs=device.type == "cuda" and can.graphs,
        updates=True,
    )


class ProgramExecutor(Executor):
    """Runs a `Program` for up to `clients` clients with batches of `width` samples."""

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        clients: int,
        width: int,
        device: torch.device,
        backend: str,
        precision: str = "fp32",
    ) -> None:
        spec = BufferSpec(clients, width, device)
        program = chosen(program, layout, spec, backend, precision)
        self.program, self.layout = program, layout
        self.random = any(isinstance(record, Dropout) for record in program.records)
        self._resident = resident_for(program, layout, width, device, (backend, precision))
        can = capabilities_of(program, layout, backend, device)
        forms = self._resident.forms if self._resident else can.resident
        self.capabilities = replace(can, resident=forms)
        how = backend, precision, self.capabilities.norms
        self._steps = StepExecutor(program, layout, spec, *how)
        read = layout.trained + sum(t.numel() for t in program.constants.values())
        self._plans = PlanCache(width * (read // 8 + program.elements(*program.values)))
        self._batches: dict[int, Minibatch] = {}  # by clients: views of one buffer
        self._chunk: ChunkBuffers | None = None
        self._losses = torch.zeros(clients, dtype=layout.dtype, device=device)

    def batch(
        self, source: SampleSource, rows: Tensor, count: Tensor, seeds: Tensor | None
    ) -> Minibatch:
        """The samples `rows` [K, B], in one buffer until the next batch."""
        into = self._batch_buffers(source, *rows.shape)
        source.read(rows, into)
        if not self.capabilities.plans:  # which know addresses
            return Minibatch(into.x, into.y, count, seeds)
        into.count.copy_(count)
        return Minibatch(into.x, into.y, into.count, seeds)

    def fetch(self, source: SampleSource, packed: Packed) -> Minibatch:
        """See `Executor.fetch`."""
        into = self._batch_buffers(source, len(packed.lines), packed.rows.shape[1])
        source.fetch(packed, into)
        return into

    def _batch_buffers(self, source: SampleSource, clients: int, width: int) -> Minibatch:
        """Of the most clients at first: recorded steps of fewer hold on to the same memory."""
        if clients not in self._batches:
            largest = self._batches.get(max(self._batches, default=0))
            if largest is None or len(largest.x) < clients:
                most = max(clients, self._steps.spec.clients)
                largest = source.buffers(most, width, self.random)
                self._batches = {most: largest}
            self._batches[clients] = largest.first(clients)
        return self._batches[clients]

    @timed("forward_backward")
    def gradients(self, step: LocalStep, tensors: StepTensors, batch: Minibatch) -> None:
        """See `Executor.gradients`; of losses a program has the cross-entropy and `Divergence`."""
        own = Divergence if self.program.head is None else Bottleneck
        if not isinstance(step.objective, own | None):
            raise ValueError(
                f"objective: this layer program has the cross-entropy and {own.__name__}"
            )
        if step.objective is not None and (step.fold is not None or step.ascent is not None):
            raise ValueError(
                "objective: the gradient of one of its own is a plain one, which nothing joins"
            )
        if isinstance(step.ascent, ScaledAscent) and step.ascent.scales is not None:
            self._steps.scale(step.ascent.scales)
        given, objective = step, step.objective
        if isinstance(objective, Bottleneck) and self.capabilities.plans:
            held = self._steps.bottleneck.held(objective, batch.x.shape[0])
            given = replace(step, objective=held)
        key = step_key(("gradients", *_places(tensors, batch)), given)
        self._do(key, batch, lambda: self._steps.run(given, tensors, batch))
        if isinstance(objective, Bottleneck):
            self._steps.add_up(objective, batch)

    def repeated(
        self, step: LocalStep, tensors: StepTensors, batch: Minibatch
    ) -> Callable[[], None]:
        """See `Executor.repeated`."""
        key = step_key(("gradients", *_places(tensors, batch)), step)
        if not self.capabilities.plans or key is None:
            return lambda: self.gradients(step, tensors, batch)
        clients = batch.x.shape[0]
        plan = self._plans.plan(key, clients, lambda: self._steps.run(step, tensors, batch))
        run = timed("forward_backward")(plan.run)
        return lambda: run(clients, self._plans.work, _counted(batch))

    @timed("forward_backward")
    def first_pass(
        self, tensors: StepTensors, batch: Minibatch, radii: LayerRadii | None = None
    ) -> Tensor | None:
        """See `Executor.first_pass`."""
        key = "first pass", *_places(tensors, batch)
        self._do(key, batch, lambda: self._steps.first_pass(tensors, batch))
        clients = batch.x.shape[0]
        if radii is None:
            return square_root(self._steps.square(clients))
        self._steps.reach(radii, clients)
        return None

    def squares(self, g: Tensor) -> Tensor | None:
        """See `Executor.squares`."""
        if not self.capabilities.norms:
            return None
        return self._steps.grad_norms.gathered(g, self._steps.backend)

    def products(self) -> dict[str, str]:
        """See `Executor.products`; on CUDA alone."""
        given = self._steps
        ours = given.spec.device.type == "cuda" and given.backend in ("auto", "triton")
        return products_of(self.program) if ours else {}

    def count_batches(self, buffers: Tensor, batches: ChunkBatches) -> None:
        """No layer reads the counters, so that all steps are counted at once."""
        if self.layout.counters:
            steps = sent_to(batches.steps.to(buffers.dtype), buffers.device)
            times = self.program.counters
            for slot in self.layout.counters:
                buffers[:, slot.offset] += times[slot.name] * steps

    @timed("forward_backward")
    def descend(
        self, step: LocalStep, w: Tensor, source: SampleSource, batches: ChunkBatches
    ) -> Tensor:
        """See `Executor.descend`."""
        if self._resident is not None and self._resident.takes(step):
            return self._resident.descend(step, w, source, batches, self._steps.backend)
        rows, clients = batches.rows.to(w.device), w.shape[0]
        found = self.prepared(step, w, source, rows)
        found.rows[: len(rows)], found.count[: len(rows)] = rows, batches.count
        found.run(batches.packing.offsets)
        return found.total[:, :clients].clone()

    def prepared(self, step: LocalStep, w: Tensor, source: SampleSource, rows: Tensor) -> Descent:
        """`descend` for batches of `rows` [n, B], and for others that are no more."""
        clients, own = w.shape[0], w[:, : self.layout.trained]
        if self._chunk is None or not self._chunk.holds(clients, rows):
            self._chunk = ChunkBuffers(source, clients, rows)
        chunk, fold = self._chunk, step.fold
        assert fold is not None
        again = Fold(fold.alpha, fold.beta, own, fold.bound, fold.addend, known=True)
        rest = step
        if isinstance(step.ascent, RowAscent):
            rest = replace(step, ascent=replace(step.ascent, first=step.ascent.later))
        first = self._step_plan(step, fold, w, source, chunk)
        later = self._step_plan(rest, again, w, source, chunk)
        last = None if step.end is None else self._row_plan(step.end, clients)
        lanes = self._lanes(step, fold, clients)
        soon = kernels.Soon(source.x, chunk.rows, own)
        most = len(chunk.rows), clients
        call = kernels.StepsCall(
            first, later, self._plans.work, most, chunk.counted, soon, last, lanes, own
        )
        return Descent(chunk.rows, chunk.count, chunk.total, call.run)

    def _lanes(self, step: LocalStep, fold: Fold, clients: int) -> kernels.Lanes | None:
        """Rows that only a client's steps need: its thread has one for all its clients."""
        rows = list(step.ascent.lanes) if isinstance(step.ascent, RowAscent) else []
        begin, form = step.begin, None
        if step.correct is not None:
            assert fold.addend is not None
            rows.append(fold.addend)
            if self._steps.adds_in_products(fold):
                form = self._row_plan(step.correct, clients)
            else:
                begin = fills_of(step.correct, begin)
        fill = None if begin is None else self._row_plan(begin, clients)
        alike = None if begin is None else begin.alike
        return kernels.Lanes(rows, fill, alike, form) if rows else None

    def _row_plan(self, update: RowUpdate, clients: int) -> kernels.Plan:
        return self._plans.plan(update.key, clients, lambda: update.apply(self._steps.backend))

    def _step_plan(
        self, step: LocalStep, fold: Fold, w: Tensor, source: SampleSource, chunk: ChunkBuffers
    ) -> kernels.Plan:
        """One step from `fold.base` to w."""
        clients = w.shape[0]

        def body() -> None:
            with phase("gather"):
                chunk.fetch(source)
            losses, batch = self._losses[:clients], chunk.batch.first(clients)
            tensors = StepTensors(fold.base, w, w[:, : self.layout.trained], losses)
            self._steps.run(replace(step, fold=fold), tensors, batch)
            chunk.tally(losses)

        where = place(w, source.x, source.y, chunk.rows, self._losses)
        key = "descend", *where, *ascent_key(step.ascent)
        return self._plans.plan(folded_key(key, fold), clients, body)

    def _do(self, key: Hashable, batch: Minibatch, body: Callable[[], None]) -> None:
        """Run `body`, by a plan where that is possible; None has no plan."""
        if self.capabilities.plans and key is not None:
            clients = batch.x.shape[0]
            plan = self._plans.plan(key, clients, body)
            plan.run(clients, self._plans.work, _counted(batch))
        else:
            body()


def _counted(batch: Minibatch) -> kernels.Counted:
    return kernels.Counted(batch.count, batch.x.shape[1])


def _places(tensors: StepTensors, batch: Minibatch) -> tuple[int, ...]:
    where = tensors.w, tensors.buffers, tensors.out, tensors.losses
    return place(*where, batch.x, batch.y, batch.count)
