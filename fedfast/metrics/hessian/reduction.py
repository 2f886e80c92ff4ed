"""A first dense layer on few samples, in the coordinates of their span.

    z = X W^T,    X = L Q with Q [r, d] of orthonormal rows,    z = L (W Q^T)^T

The loss depends on W through W' = W Q^T alone. Eigenvalues of the Hessian are those by (W', other
parameters) and zeros, since V' -> V' Q keeps lengths; its eigenvectors are mapped back so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from ...data import Samples
from ...layout import FlatLayout
from ...layout_slots import place_slots
from ...programs.products import Linear
from ...programs.program import Program
from ...programs.records import Reshape
from ...torch_settings import torch_threads
from ...worker_pool import WorkerPool
from .slices import width_of

WORTH = 0.75  # of d: up to which r coordinates are worth what it takes to find them


@dataclass(frozen=True)
class Reduction:
    """The problem of K models in r coordinates of their inputs.

    weight  name of the first layer's; spare: coordinates of W' in which every Hessian is zero
    spans   Q `[r, d]` float64 of each model
    full    the layout of the models themselves
    """

    program: Program
    layout: FlatLayout
    rows: Tensor
    samples: list[Samples]
    weight: str
    spare: int
    spans: list[Tensor]
    full: FlatLayout

    def lift(self, k: int, vectors: Tensor) -> Tensor:
        """Vectors over model k's parameters from those over its coordinates: `[T, P]`."""
        slots = [slot for slot in self.layout.slots if slot.trained]
        parts = list(vectors.split([slot.length for slot in slots], 1))
        for i, slot in enumerate(slots):
            if slot.name == self.weight:
                parts[i] = (parts[i].unflatten(1, slot.shape) @ self.spans[k]).flatten(1)
        return torch.cat(parts, 1)


def entry(program: Program, layout: FlatLayout) -> Linear | None:
    """The dense layer that alone reads the input, if its weight is trained and not tied."""
    readers = [
        record
        for record in program.records
        if not isinstance(record, Reshape) and any(program.root(v) == 0 for v in record.inputs)
    ]
    record = readers[0] if len(readers) == 1 else None
    if not isinstance(record, Linear):
        return None
    names = [layout.aliases.get(n, n) for r in program.records for n in r.weights]
    alone = names.count(layout.aliases.get(record.weight, record.weight)) == 1
    flat = len(program.shapes[record.inputs[0]]) == 1
    return record if alone and flat and record.weight in record.parameters else None


def coordinates(program: Program, count: int) -> int | None:
    """r for so many samples, at least one more than these; None where it does not pay."""
    size = width_of(count + 1, count + 2)
    return size if size <= WORTH * prod(program.shapes[0]) else None


def reduce(
    program: Program,
    layout: FlatLayout,
    layer: Linear,
    rows: Tensor,
    samples: Sequence[Samples],
    size: int,
) -> Reduction:
    """The problem of models `rows` in `size` coordinates, more than any has samples."""
    weight = layout.aliases.get(layer.weight, layer.weight)
    small = _with_inputs(layout, weight, size)
    pairs = _spans(samples, layout.dtype, size)
    narrow = small.bank(len(rows), rows.device)
    to, given = small.views(narrow), layout.views(rows)
    for name, view in to.items():
        if name != weight:
            view.copy_(given[name])
    with torch_threads(1):
        for k, (_, q) in enumerate(pairs):
            to[weight][k] = (given[weight][k].cpu().double() @ q.T).to(to[weight])
    shapes = [(size,) if program.root(v) == 0 else s for v, s in enumerate(program.shapes)]
    spare = to[weight].shape[1]  # of one coordinate beyond the samples: as in any company
    spans = [q for _, q in pairs]
    changed = replace(program, shapes=tuple(shapes))
    return Reduction(changed, small, narrow, [s for s, _ in pairs], weight, spare, spans, layout)


def _spans(
    samples: Sequence[Samples], dtype: torch.dtype, size: int
) -> list[tuple[Samples, Tensor]]:
    """`_span` of each, side by side; of samples that models share once."""
    each = {id(own): own for own in samples}
    found, turns = dict[int, tuple[Samples, Tensor]](), iter(list(each))
    pool = WorkerPool(min(torch.get_num_threads(), len(each)))

    def work(_: int) -> None:
        for at in turns:
            found[at] = _span(each[at], dtype, size)

    pool.each(work)
    return [found[id(own)] for own in samples]


def _span(samples: Samples, dtype: torch.dtype, size: int) -> tuple[Samples, Tensor]:
    """Samples in coordinates, and Q. Householder's reflections: orthonormal whatever the rank."""
    x = samples.inputs(dtype).flatten(1).cpu().double()
    columns = x.new_zeros(x.shape[1], size)
    columns[:, : len(x)] = x.T
    q, upper = torch.linalg.qr(columns)
    lower = upper[:, : len(x)].T.contiguous().to(dtype)
    return Samples(lower, samples.y.cpu()), q.T.contiguous()


def _with_inputs(layout: FlatLayout, weight: str, size: int) -> FlatLayout:
    """The same layout but for the inputs of one weight."""
    first, trained = place_slots(_like(layout, weight, size, True), 0, True)
    rest, stride = place_slots(_like(layout, weight, size, False), trained, False)
    return replace(layout, slots=(*first, *rest), trained=trained, stride=stride, head=(0, 0))


def _like(layout: FlatLayout, weight: str, size: int, trained: bool) -> dict[str, Tensor]:
    """Tensors without memory, for their shapes."""
    shapes = {
        slot.name: (slot.shape[0], size) if slot.name == weight else slot.shape
        for slot in layout.slots
        if slot.trained == trained
    }
    kinds = {slot.name: slot.dtype for slot in layout.slots}
    return {n: torch.empty(s, dtype=kinds[n], device="meta") for n, s in shapes.items()}
