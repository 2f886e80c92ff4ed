"""The clip of a step that is folded into the weight gradients: dense layers write no gradient.

    n = |g|;  w <- beta w + alpha min(1, c / (n + 1e-6)) g

n is known when the last layer has its gradient, so products wait: a dense layer keeps its two thin
factors (`kernels.lowrank`), n takes its norm from them, and one product then moves the weights. All
other layers write their gradients to a workspace and move afterwards.

Where g + a is clipped, a the same row all round: other layers' gradients take it in the workspace.
Of those that wait |a| is known from the first step on, and |g + a| is computed only where
|g| + |a| is above c (`kernels.joined`); below it the clip leaves the step as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import kernels
from ..executor import ClipBound, Fold
from ..kernels._args import Coefficient
from ..layout import FlatLayout
from .grad_norms import SpanNorms
from .products import Linear
from .program import BufferSpec, Program
from .records import ExecutionContext, Norms, Waiting
from .sam import GRAM_COST, NUMBER_COST

# Passes over the weights that a gradient takes until it has moved them (measured likewise): its
# lines fetched and written, read for the norm, read again, and what it drives out of the caches.
PASSES = 5


@dataclass(frozen=True)
class Corrected:
    """What joins the gradients of a step, `[K, >= trained]`, and the largest norm of both."""

    addend: Tensor
    limit: float


class Clip:
    """The buffers, and which dense layers wait."""

    def __init__(self, program: Program, layout: FlatLayout, spec: BufferSpec) -> None:
        self.layers = late_layers(program, spec.width)
        self.columns = {record.output: i for i, record in enumerate(self.layers)}
        held = {name for record in self.layers for name in record.parameters}
        self.others = SpanNorms(layout, held, spec)

        side = spec.width if self.layers else 0
        self.gram = spec.zeros(side, side, dtype=layout.dtype)
        self.squares = spec.zeros(len(self.layers), dtype=torch.float64)
        self.scale = spec.zeros(dtype=layout.dtype)
        waiting = {slot.name for slot in layout.slots} - held
        self.addend = SpanNorms(layout, waiting, spec)
        self.joined = spec.zeros(len(self.layers), dtype=torch.float64)

    def waiting(self, v: int, clients: int) -> Waiting | None:
        """What the layer with output v needs if its product waits."""
        column = self.columns.get(v)
        if column is None:
            return None
        return Waiting(self.gram[:clients], self.squares[:clients, column])

    def measure_addend(self, addend: Tensor, backend: str) -> None:
        """The norm of what corrects the gradients of layers that wait. `[K, >= trained]`"""
        if self.addend.spans:
            self.addend.measure(addend, backend)

    def correct(
        self, context: ExecutionContext, addends: Mapping[str, Tensor], g: Tensor, to: Corrected
    ) -> None:
        """`g <- g + addend` of layers that do not wait; `joined` of those that do.

        addends  the addend's parts by name; g `[K, >= trained]`
        """
        for a, b in self.others.spans:
            kernels.mix(g[:, a:b], to.addend[:, a:b], out=g[:, a:b], backend=context.backend)
        clients = len(g)
        squares, apart = self._squares(g, context.backend), self.addend.squares(clients)
        for i, record in enumerate(self.layers):
            norms = Norms(squares, apart, to.limit, self.joined[:clients, i])
            record.join(context, addends, norms)

    def scale_of(self, bound: ClipBound, fold: Fold, clients: int, backend: str) -> Tensor:
        """`alpha min(1, c / (|g| + 1e-6))` [K]; a pass over what `bound.g` holds of g."""
        scale = self.scale[:clients, None]
        if fold.addend is None:
            squares = self._squares(bound.g[:clients], backend)
        elif self.others.spans:
            squares = [self.joined[:clients], self.others.squares(clients)]
        else:
            squares = [self.joined[:clients]]
        kernels.reach(squares, bound.norm, bound.eps, most=1.0, out=scale[:, 0], backend=backend)
        return kernels.mix(scale, scale, fold.alpha, 0.0, out=scale, backend=backend)[:, 0]

    def _squares(self, g: Tensor, backend: str) -> list[Tensor]:
        """Tensors `[K, n]` float64 whose sum over all n is |g|^2."""
        squares = [self.squares[: len(g)]]
        return [*squares, self.others.measure(g, backend)] if self.others.spans else squares

    def move(
        self, base: Tensor, g: Tensor, beta: Coefficient, scale: Tensor, out: Tensor, backend: str
    ) -> None:
        """`out = beta base + scale g` for the layers that did not wait. `[K, >= trained]`"""
        for a, b in self.others.spans:
            there, here = base[:, a:b], g[:, a:b]
            kernels.mix(there, here, beta, scale, out=out[:, a:b], backend=backend)


def is_late(batch: int, inputs: int, outputs: int) -> bool:
    """Whether a dense layer's norm by Gram matrices costs less than passes over its gradient."""
    grams = batch * batch * (inputs + outputs)
    return GRAM_COST * grams < PASSES * NUMBER_COST * inputs * outputs


def late_layers(program: Program, width: int) -> list[Linear]:
    """The dense layers whose products wait."""
    linear = [r for r in program.records if isinstance(r, Linear)]
    dense, size = [r for r in linear if r.weight in r.parameters], program.elements
    return [r for r in dense if is_late(width, size(r.inputs[0]), size(r.output))]


def elements_per_client(program: Program, width: int) -> int:
    """Numbers that the clip keeps for one client, beside a few."""
    return width * width if late_layers(program, width) else 0
