"""The clip of a step that is folded into the weight gradients: dense layers write no gradient.

    n = |g|;  w <- beta w + alpha min(1, c / (n + 1e-6)) g

n is known when the last layer has its gradient, so products wait: a dense layer keeps its two thin
factors (`kernels.lowrank`), n takes its norm from them, and one product then moves the weights. All
other layers write their gradients to a workspace and move afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernels
from ..executor import ClipBound
from ..kernels._args import Coefficient
from ..layout import FlatLayout
from .grad_norms import SpanNorms
from .products import Linear
from .program import BufferSpec, Program
from .records import Waiting
from .sam import GRAM_COST, NUMBER_COST

# Passes over the weights that a gradient takes until it has moved them (measured likewise): its
# lines fetched and written, read for the norm, read again, and what it drives out of the caches.
PASSES = 5
EPS = 1e-6  # as `kernels.step`, and torch's clip_grad_norm_


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

    def waiting(self, v: int, clients: int) -> Waiting | None:
        """What the layer with output v needs if its product waits."""
        column = self.columns.get(v)
        if column is None:
            return None
        return Waiting(self.gram[:clients], self.squares[:clients, column])

    def scale_of(self, bound: ClipBound, alpha: Coefficient, clients: int, backend: str) -> Tensor:
        """`alpha min(1, c / (|g| + 1e-6))` [K]; a pass over what `bound.g` holds of g."""
        squares, scale = [self.squares[:clients]], self.scale[:clients, None]
        if self.others.spans:
            squares.append(self.others.measure(bound.g[:clients], backend))
        kernels.reach(squares, bound.norm, EPS, most=1.0, out=scale[:, 0], backend=backend)
        return kernels.mix(scale, scale, alpha, 0.0, out=scale, backend=backend)[:, 0]

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
