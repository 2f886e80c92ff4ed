"""Squared norms of gradients, written by the products that compute them.

On CUDA a weight gradient's kernel adds up the squares of its tile before it leaves the registers
(`kernels.linear_backward(squares=)`); SAM's radius and the clip want the norm over all layers, and
need no pass over them then. Layers without products (norms) still take one.
"""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor

from .. import kernels
from ..kernels import Segments
from ..layout import FlatLayout
from .products import ProductLayer
from .program import BufferSpec, Program

Spans = list[tuple[int, int]]


class SpanNorms:
    """Squared norms of the gradients of those parameters that are not `held`: one pass over them.

    spans  the parts of a row where these lie, neighbours joined
    """

    def __init__(self, layout: FlatLayout, held: Set[str], spec: BufferSpec) -> None:
        self.spans, self.trained = parts_without(layout, held), layout.trained
        starts = [start for start, _ in self.spans]
        lengths = [stop - start for start, stop in self.spans]
        self.segments = Segments.of(starts, lengths, device=spec.device)
        self.sums = spec.zeros(len(self.spans), len(kernels.Column), dtype=torch.float64)

    def measure(self, g: Tensor, backend: str) -> Tensor:
        """`squares` of gradients g `[K, >= trained]`; there must be spans."""
        clients = g.shape[0]
        rows, out = g[:, : self.trained], self.sums[:clients]
        kernels.stats(rows, segments=self.segments, out=out, backend=backend)
        return self.squares(clients)

    def squares(self, clients: int) -> Tensor:
        """[K, n] float64 of the gradients measured last, one for each span."""
        return self.sums[:clients, :, kernels.Column.XX]


class GradNorms:
    """`squares` [K, n] float64: what their sum over n is the norm of.

    A column for each layer that is a product, then one for each span of other parameters.
    """

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        spec: BufferSpec,
        held: Set[str] = frozenset(),
    ) -> None:
        """held: parameters that do not count here."""
        products = [r for r in program.records if isinstance(r, ProductLayer)]
        layers = [r for r in products if r.parameters and held.isdisjoint(r.parameters)]
        self.columns = {record.output: i for i, record in enumerate(layers)}
        own = {name for record in layers for name in record.parameters}
        self.others = SpanNorms(layout, own | held, spec)
        columns = len(layers) + len(self.others.spans)
        self.squares = spec.zeros(columns, dtype=torch.float64)

    def of(self, v: int, clients: int) -> Tensor | None:
        """Where the layer with output v writes its squares `[K]`; None where it has none."""
        column = self.columns.get(v)
        return None if column is None else self.squares[:clients, column]

    def gathered(self, g: Tensor, backend: str) -> Tensor:
        """`squares` of gradients g `[K, >= trained]`, all columns known."""
        clients = g.shape[0]
        if self.others.spans:
            self.squares[:clients, len(self.columns) :] = self.others.measure(g, backend)
        return self.squares[:clients]


def parts_without(layout: FlatLayout, held: Set[str]) -> Spans:
    """The parts of a row whose parameters are not `held`, neighbours joined."""
    found: Spans = []
    joined = False
    for slot in layout.slots:
        if not slot.trained:
            break
        if slot.name in held:
            joined = False
        elif joined:
            found[-1] = found[-1][0], slot.stop
        else:
            found.append((slot.offset, slot.stop))
            joined = True
    return found
