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
from .buffer_spec import BufferSpec
from .products import ProductLayer
from .program import Program

Spans = list[tuple[int, int]]


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
        layers = [r for r in products if held.isdisjoint(r.parameters)]
        self.columns = {record.output: i for i, record in enumerate(layers)}
        own = {name for record in layers for name in record.parameters}
        self.segments = segments_of(others := spans(layout, own | held), spec.device)
        self.trained = layout.trained

        def zeros(*shape: int) -> Tensor:
            return spec.zeros(*shape, dtype=torch.float64)

        self.squares = zeros(len(layers) + len(others))
        self.sums = zeros(len(others), len(kernels.Column))

    def of(self, v: int, clients: int) -> Tensor | None:
        """Where the layer with output v writes its squares `[K]`; None where it has none."""
        column = self.columns.get(v)
        return None if column is None else self.squares[:clients, column]

    def gathered(self, g: Tensor, backend: str) -> Tensor:
        """`squares` of gradients g `[K, >= trained]`, all columns known."""
        clients = g.shape[0]
        if self.segments.count:
            sums = self.sums[:clients]
            rows = g[:, : self.trained]
            kernels.stats(rows, segments=self.segments, out=sums, backend=backend)
            self.squares[:clients, len(self.columns) :] = sums[..., kernels.Column.XX]
        return self.squares[:clients]


def segments_of(pieces: Spans, device: torch.device) -> Segments:
    """The same as a table."""
    starts = [start for start, _ in pieces]
    return Segments.of(starts, [stop - start for start, stop in pieces], device=device)


def spans(layout: FlatLayout, held: Set[str]) -> Spans:
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
