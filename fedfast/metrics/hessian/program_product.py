"""Products with the Hessian by forward-over-reverse through a layer program, K models at once.

What the products of a solve have in common (activations, their gradients, where maxima are) is kept
as far as memory allows, and computed anew where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...data import Samples
from ...kernels import registry
from ...layout import FlatLayout
from ...programs.apart import apart
from ...programs.program import Program
from ...programs.tangent_rules import covered
from ...programs.trace import trace
from ...programs.workspace import Workspace, places, sizes
from .chunk_pass import ChunkPass, Given
from .module_product import check_vectors
from .slices import Chunk, chunks_of

LARGEST = 1 << 26  # bytes, about, of a slice's buffers of one pass
WIDEST = 1024
# Bytes, about, of a chunk's slices, unless threads would idle. More gain nothing, and products of
# models that need none are left out chunk by chunk.
TOGETHER = 1 << 24
MEMORY = 1 << 30


class ProgramProduct:
    """`product.HessianProduct` of the cross-entropy of a layer program.

    rows     [K, S], the models
    samples  of each model
    batch    samples of a model that are worked on at once; None: as memory suggests
    memory   bytes, about, that what products have in common may take
    """

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        rows: Tensor,
        samples: Sequence[Samples],
        batch: int | None = None,
        backend: str = "auto",
        memory: int = MEMORY,
    ) -> None:
        self.layout, self.rows = layout, rows.detach().clone()
        self.models, self.trained, self.stride = len(rows), layout.trained, layout.stride
        self.given = Given(program, layout, self.rows, samples, registry.choose(backend, rows))
        each = layout.dtype.itemsize * elements_of_a_pass(program)
        batch = max(1, min(WIDEST, LARGEST // each)) if batch is None else batch
        slice_bytes = each * min(batch, max(map(len, samples)))
        most = max(torch.get_num_threads(), TOGETHER // slice_bytes)
        most = max(1, min(most, memory // 4 // slice_bytes))
        self._gaps = _gaps(layout)
        self._once = [len(s) <= batch for s in samples]
        self._shared: dict[tuple[str, int], Workspace] = {}
        self._keep(chunks_of([len(s) for s in samples], batch, most), each, memory)

    def _keep(self, chunks: Sequence[Chunk], each: int, memory: int) -> None:
        """Give chunks workspaces of their own while memory lasts; others share one."""
        self._passes: list[tuple[ChunkPass, bool]] = []
        self._most: dict[int, int] = {}
        for chunk in chunks:
            size = len(chunk.slices)
            self._most[chunk.width] = max(size, self._most.get(chunk.width, 0))
        for chunk in chunks:
            memory -= each * chunk.width * len(chunk.slices)
            kept = memory >= 0
            if kept:
                workspace = self.given.workspace(len(chunk.slices), chunk.width)
            else:
                workspace = self._workspace("first", chunk.width)
            self._passes.append((ChunkPass(self.given, chunk, workspace), kept))
            if kept:
                self._run(self._passes[-1][0])

    def _workspace(self, name: str, width: int) -> Workspace:
        """One that chunks of this width take in turn."""
        if (name, width) not in self._shared:
            self._shared[name, width] = self.given.workspace(self._most[width], width)
        return self._shared[name, width]

    @torch.no_grad()
    def _run(self, chunk: ChunkPass) -> None:
        chunk.run()

    @torch.no_grad()
    def __call__(
        self, v: Tensor, *, out: Tensor | None = None, active: Sequence[bool] | None = None
    ) -> Tensor:
        """See `product.HessianProduct`."""
        check_vectors(v, self.rows)
        out = torch.empty_like(self.rows) if out is None else out
        total = {k: out.new_zeros(self.stride, dtype=torch.float64) for k in self._joined}
        for chunk, kept in self._passes:
            if active is not None and not any(active[k] for k in chunk.chunk.models):
                continue
            if not kept:
                self._run(chunk)
            self._part(chunk, v, out, total)
        for k, found in total.items():
            out[k] = found
        for start, stop in self._gaps:
            out[:, start:stop] = 0
        return out

    @property
    def _joined(self) -> list[int]:
        """Models of more than one slice."""
        return [k for k, once in enumerate(self._once) if not once]

    def _part(self, chunk: ChunkPass, v: Tensor, out: Tensor, total: dict[int, Tensor]) -> None:
        own = chunk.chunk
        direct = own.whole and all(self._once[k] for k in own.models)
        part = own.rows(out) if direct else out.new_empty(len(own.slices), self.stride)
        chunk.tangents(own.rows(v), part, self._workspace("tangents", own.width))
        if direct:
            return
        for k, row in zip(own.models, part, strict=True):
            if k in total:
                total[k] += row
            else:
                out[k] = row


def elements_of_a_pass(program: Program) -> int:
    """Of a sample: its input, values, their gradients and what layers save."""
    where = places(program, reuse=False)
    gradients = program.elements(*(program.learning & where.keys())) + program.widest_join
    saved = sum(record.saved_elements(program.shapes) for record in program.records)
    return program.elements(0) + sum(sizes(program, where)) + gradients + saved


def _gaps(layout: FlatLayout) -> list[tuple[int, int]]:
    """Where a row has no trained parameter."""
    ends = [(slot.offset, slot.stop) for slot in layout.slots if slot.trained]
    starts = [*(start for start, _ in ends), layout.stride]
    stops = [0, *(stop for _, stop in ends)]
    return [(a, b) for a, b in zip(stops, starts, strict=True) if a < b]


def program_of(module: nn.Module, layout: FlatLayout, x: Tensor) -> Program | None:
    """The program of `module` in evaluation mode whose second derivatives are known, or None.

    x  `[2, ...]` samples
    """
    found, _ = trace(module, x, training=False)
    if found is None or len(found.shapes[found.output]) != 1:
        return None
    held = {name: t for name, t in found.constants.items() if name in layout.constants}
    program = apart(replace(found, constants=held))  # other tensors are in the rows
    read = {layout.aliases.get(name, name) for name in program.parameters}
    whole = all(slot.name in read for slot in layout.slots if slot.trained)
    return program if whole and covered(program) else None
