"""Forward and backward passes of a layer program, under the run's loss and under `Divergence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from torch import Tensor

from .. import kernels
from ..algorithms.objective import Divergence
from ..layout import FlatLayout
from .context import BatchContext
from .program import BufferSpec, Program
from .records import Record


def forward(context: BatchContext, records: Sequence[Record]) -> Tensor:
    """The logits. [K, B, C]"""
    for record in records:
        record.forward(context)
    return context.value(context.workspace.program.output)


def backward(context: BatchContext, records: Sequence[Record]) -> None:
    """From the gradient of the logits to those of the parameters that the context wants."""
    for record in reversed(records):
        if context.needs(record.output):
            record.backward(context)
            context.settle()


def cross_entropy(context: BatchContext, records: Sequence[Record], losses: Tensor) -> None:
    """The losses [K] and their gradients."""
    logits, batch = forward(context, records), context.batch
    kernels.cross_entropy(
        logits,
        batch.y,
        batch.count,
        losses=losses,
        dlogits=context.own_gradient(context.workspace.program.output),
        backend=context.backend,
    )
    backward(context, records)


class DivergencePass:
    """The gradient of a `Divergence`: two forward passes, and back as far as its columns lie."""

    def __init__(self, program: Program, layout: FlatLayout, spec: BufferSpec) -> None:
        self.program, self.layout = program, layout
        shape = spec.width, *program.shapes[program.output]
        self._before = spec.zeros(*shape, dtype=layout.dtype)
        self._learning = cache(self._leading_to)

    def run(self, context: BatchContext, objective: Divergence) -> None:
        """Into `context.g`; of the columns outside of `objective.span` some or none."""
        records, clients, backend = self.program.records, context.clients, context.backend
        sent = objective.sent[: self.layout.trained].expand(clients, -1)
        there = forward(replace(context, w=sent, buffers=None), records).flatten(1)
        before = self._before[:clients]
        kernels.mix(there, there, b=0.0, out=before.flatten(1), backend=backend)
        context.learning = self._learning(objective.span)
        kernels.kl_gradient(
            forward(context, records),
            before,
            context.count,
            objective.temperature,
            out=context.own_gradient(self.program.output),
            backend=backend,
        )
        backward(context, records)

    def _leading_to(self, span: tuple[int, int]) -> frozenset[int]:
        held = {s.name for s in self.layout.slots if s.trained and span[0] <= s.offset < span[1]}
        names = self.program.parameters
        return self.program.leading_to(
            {name for name in names if self.layout.aliases.get(name, name) in held}
        )
