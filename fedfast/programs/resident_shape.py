"""Which programs are resident MLPs, and where their tensors lie in a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..layout import FlatLayout
from .products import Linear
from .program import Program
from .records import Reshape


@dataclass(frozen=True)
class Shape:
    """One hidden layer, or two with `middle` units in the second; where tensors begin in a row.

    x [B, inputs] -> relu(x W1^T + b1) [-> relu(h Wm^T + bm)] -> h W2^T + b2 [B, classes]
    """

    inputs: int
    hidden: int
    classes: int
    w1: int
    b1: int
    w2: int
    b2: int
    middle: int = 0
    wm: int = 0
    bm: int = 0

    def given(self, width: int, norms: bool, heavy: bool) -> dict[str, object]:
        """Of batches of `width` samples; see `resident.ResidentMLP`."""
        return {**vars(self), "width": width, "norms": norms, "heavy": heavy}


def shape_of(program: Program, layout: FlatLayout) -> Shape | None:
    """Of a program that is such an MLP, with weights and biases of its own, all of them trained."""
    records = [record for record in program.records if not isinstance(record, Reshape)]
    layers = [record for record in records if isinstance(record, Linear)]
    if len(layers) != len(records) or not 2 <= len(layers) <= 3 or layout.dtype != torch.float32:
        return None
    places = {slot.name: slot.offset for slot in layout.slots}
    names = [name for layer in layers for name in layer.parameters]
    reads = [program.root(layer.inputs[0]) for layer in layers]
    chained = reads == [0, *(layer.output for layer in layers[:-1])]
    rectified = [layer.activation for layer in layers] == ["relu"] * (len(layers) - 1) + [None]
    if not (chained and rectified) or layout.aliases:
        return None
    if len(names) != 2 * len(layers) or set(names) != places.keys():
        return None
    inputs, hidden, *between, classes = map(program.elements, (0, *(v.output for v in layers)))
    w1, b1, *rest, w2, b2 = (places[name] for name in names)
    return Shape(inputs, hidden, classes, w1, b1, w2, b2, *between, *rest)
