"""The memory of a layer program: activations, their gradients, what layers save, views of rows.

Made once, for the largest chunk; a step allocates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from ..layout import FlatLayout
from . import clip, sam
from .program import BufferSpec, Program
from .records import Reshape


class Workspace:
    """Activations, their gradients and what layers save.

    learns  whether there is a backward pass; without one, values share memory (`places`)
    """

    def __init__(
        self, program: Program, layout: FlatLayout, spec: BufferSpec, learns: bool = True
    ) -> None:
        self.program, self.layout = program, layout
        self.learning = program.learning if learns else frozenset()
        self.sources = {record.output: record for record in program.records}
        width = spec.width

        def zeros(elements: int) -> Tensor:
            return spec.zeros(width * elements, dtype=layout.dtype)

        def value(v: int, memory: Tensor) -> Tensor:
            shape = program.shapes[v]
            return memory[:, : width * prod(shape)].view(spec.clients, width, *shape)

        where = places(program, reuse=not learns)
        memories = [zeros(elements) for elements in sizes(program, where)]
        self.values = {v: value(v, memories[at]) for v, at in where.items()}
        learning = self.learning & where.keys()
        self.gradients = {v: value(v, zeros(program.elements(v))) for v in learning}
        # For contributions that join what is already collected; a client's row is its own.
        self.spare = zeros(program.widest_join if learns else 0)
        self._saved: dict[tuple[str, torch.dtype], Tensor] = {}
        self._views: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer `[K, ...]` that lasts from a record's forward to its backward."""
        name = key, dtype
        if name not in self._saved or self._saved[name].shape[0] < shape[0]:
            self._saved[name] = torch.empty(*shape, dtype=dtype, device=self.spare.device)
        return self._saved[name][: shape[0]]

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Tensors of rows [K, ...] by name, `[K, ...]`; the live buffers' views are made once."""
        key = rows.data_ptr(), rows.stride(0), *rows.shape
        if key not in self._views:
            self._views[key] = self.layout.views(rows, rows.shape[1] < self.layout.stride)
        return self._views[key]


def places(program: Program, reuse: bool) -> dict[int, int]:
    """Which buffer each value that needs memory lies in.

    reuse  whether any value may take the place of one that nobody reads any more; else those may
           that no backward pass remembers
    """
    kept = frozenset[int]() if reuse else program.remembered
    last = {program.root(r.output): i for i, r in enumerate(program.records)}
    last |= {program.root(v): i for i, r in enumerate(program.records) for v in r.inputs}
    last[program.root(program.output)] = len(program.records)
    where: dict[int, int] = {}
    free: list[int] = []
    for i, record in enumerate(program.records):
        if not isinstance(record, Reshape):
            size, shares = program.elements(record.output), record.output not in kept
            held = sizes(program, where)
            # What it fits into with least to spare; else the largest, which grows.
            free.sort(key=lambda at: (held[at] < size, abs(held[at] - size)))
            where[record.output] = free.pop(0) if free and shares else len(held)
        free += [at for v, at in where.items() if last[v] == i and v not in kept]
    return where


def sizes(program: Program, where: Mapping[int, int]) -> list[int]:
    """Elements of a sample in each buffer: those of the largest value there."""
    held = [0] * (1 + max(where.values(), default=-1))
    for v, at in where.items():
        held[at] = max(held[at], program.elements(v))
    return held


def bytes_per_client(
    program: Program,
    width: int,
    itemsize: int,
    ascends: bool = False,
    clips: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    diverges: bool = False,
) -> int:
    """Bytes of activations, their gradients and what layers save for one client.

    ascends  whether SAM's second pass follows the first
    clips    whether steps are clipped
    device, precision   its type and that of products, or "fp64", which decide what SAM keeps
    diverges  whether the first gradient is of a `Divergence`, which keeps the sent model's logits
    """
    where = places(program, reuse=False)
    shared = program.elements(*where) - sum(sizes(program, where))
    elements_saved = program.elements(*program.values) - shared + program.widest_join
    elements_saved += sum(record.saved_elements(program.shapes) for record in program.records)
    learning = program.elements(*program.learning)
    more = sam.elements_per_client(program, width, device, precision) if ascends else 0
    more += clip.elements_per_client(program, width) if clips else 0
    more += width * prod(program.shapes[program.output]) if diverges else 0
    return itemsize * (width * (elements_saved + 2 * learning) + more)


def scratch_bytes(program: Program, width: int, itemsize: int) -> int:
    """Bytes of one client that operations on a GPU allocate and free: of the layer with most."""
    needs = (record.scratch_elements(program.shapes) for record in program.records)
    return itemsize * width * max(needs, default=0)
