"""The memory of a program path: activations, their gradients, what layers save, views of banks.

Made once, for the largest chunk; a step allocates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ..feed import View
from ..layout import FlatLayout
from .ascent import elements_per_client
from .records import Reshape
from .trace import Program


class Room:
    """Buffers for up to `clients` clients with batches of `width` samples."""

    def __init__(
        self, program: Program, layout: FlatLayout, clients: int, width: int, device: torch.device
    ) -> None:
        self.program, self.layout, self.learning = program, layout, program.learning
        self.sources = {record.output: record for record in program.records}
        held = {v for v, record in self.sources.items() if not isinstance(record, Reshape)}

        def zeros(v: int) -> Tensor:
            shape = clients, width, *program.shapes[v]
            return torch.zeros(shape, dtype=layout.dtype, device=device)

        self.values = {v: zeros(v) for v in held}
        self.gradients = {v: zeros(v) for v in held & self.learning}
        # For contributions that join what is already collected; a client's row is its own.
        self.spare = self.values[program.output].new_zeros(clients, width * program.widest_join)
        self._saved: dict[tuple[str, torch.dtype], Tensor] = {}
        self._views: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer `[K, ...]` that lasts from a record's forward to its backward."""
        name = key, dtype
        if name not in self._saved or self._saved[name].shape[0] < shape[0]:
            self._saved[name] = torch.empty(*shape, dtype=dtype, device=self.spare.device)
        return self._saved[name][: shape[0]]

    def views(self, bank: Tensor) -> dict[str, Tensor]:
        """Parameters of a bank as `[K, ...]`; the live buffers' views are made once."""
        key = bank.data_ptr(), bank.stride(0), *bank.shape
        if key not in self._views:
            self._views[key] = self.layout.views(bank, bank.shape[1] < self.layout.stride)
        return self._views[key]


@dataclass(frozen=True)
class Held:
    """One mini-batch of every client, in place: x `[K, B, ...]`, y `[K, B]`, count `[K]`."""

    x: Tensor
    y: Tensor
    count: Tensor

    @classmethod
    def of(cls, view: View, y: Tensor, rows: Tensor) -> Held:
        """Buffers for `rows` [K, B] of the samples that `view` shows and of their labels y."""
        count = torch.empty(rows.shape[0], dtype=torch.int32, device=y.device)
        return cls(view.empty(rows), y.new_empty(rows.shape), count)

    def first(self, clients: int) -> Held:
        """Those of the first clients."""
        return Held(self.x[:clients], self.y[:clients], self.count[:clients])


def bytes_per_client(program: Program, width: int, itemsize: int, ascends: bool = False) -> int:
    """Bytes of activations, their gradients and what layers save for one client.

    ascends  whether SAM's second pass follows the first
    """
    kept = elements(program, program.values) + program.widest_join
    kept += sum(record.kept(program.shapes) for record in program.records)
    learning = elements(program, program.learning)
    more = elements_per_client(program, width) if ascends else 0
    return itemsize * (width * (kept + 2 * learning) + more)


def elements(program: Program, values: Iterable[int]) -> int:
    """How many numbers a sample has in these values together."""
    return sum(prod(program.shapes[v]) for v in values)
