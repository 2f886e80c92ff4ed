"""The program path: K clients' gradients layer by layer, through fused operations.

It takes the place of `GenericPath.gradients`. Buffers for activations and their gradients are made
once, for the largest chunk; a step allocates nothing. Every operation works on whole clients with a
fixed batch width, so a client's bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from .. import kernels
from ..feed import View
from ..generic import Minibatch
from ..layout import FlatLayout
from .elementwise import Dropout
from .records import Reshape, Sink
from .trace import Program


@dataclass(frozen=True)
class Fold:
    """A plain SGD step folded into the weight gradients: `out = beta * base + alpha * g`."""

    alpha: float
    beta: float
    base: Tensor  # [K, >= trained]; row stride 0 where all start from one


class ProgramPath:
    """Runs a `Program` for up to `clients` clients with batches of `width` samples."""

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        clients: int,
        width: int,
        device: torch.device,
        backend: str,
    ) -> None:
        self.program, self.layout, self.backend = program, layout, backend
        self._values = _buffers(program, clients, width, layout.dtype, device, True)
        self._gradients = _buffers(program, clients, width, layout.dtype, device, False)
        self._scratch = _Scratch(layout.dtype, device)
        self._saved: dict[tuple[str, torch.dtype], Tensor] = {}
        self._views: dict[tuple[int, ...], dict[str, Tensor]] = {}
        self._input: Tensor | None = None
        self.sources = {record.output: record for record in program.records}
        self.learning = program.learning
        self.random = any(isinstance(record, Dropout) for record in program.records)

    def batch(
        self, view: View, y: Tensor, rows: Tensor, count: Tensor, seeds: Sequence[int] | None
    ) -> Minibatch:
        """The samples `rows` [K, B] of a bank, in this path's own buffer until the next batch."""
        clients = rows.shape[0]
        if self._input is None or self._input.shape[0] < clients:
            self._input = view.empty(rows)
        into = view.take(rows, self._input[:clients])
        return Minibatch(into, y[rows], count.to(into.device).contiguous(), seeds)

    def gradients(
        self,
        w: Tensor,
        carried: Tensor,
        batch: Minibatch,
        g: Tensor,
        losses: Tensor,
        keep_carried: bool,
        fold: Fold | None = None,
    ) -> None:
        """Write each client's mini-batch gradient and loss; see `GenericPath.gradients`.

        The batch is taken in its full width; what lies beyond a client's count adds nothing.
        fold   if given, `g` receives the weights after an SGD step instead of the gradient
        """
        tape = _Tape(self, w, carried, g, batch.x, batch.count, keep_carried, fold, batch.seeds)
        for record in self.program.records:
            record.forward(tape)
        logits, output = tape.value(self.program.output), self.program.output
        kernels.cross_entropy(
            logits,
            batch.y,
            batch.count,
            losses=losses,
            dlogits=tape.own_gradient(output),
            backend=self.backend,
        )
        for record in reversed(self.program.records):
            if tape.needs(record.output):
                record.backward(tape)
                tape.settle()

    def views(self, bank: Tensor) -> dict[str, Tensor]:
        """Parameters of a bank as `[K, ...]`; the live buffers' views are made once."""
        key = bank.data_ptr(), bank.stride(0), *bank.shape
        if key not in self._views:
            self._views[key] = self.layout.views(bank, bank.shape[1] < self.layout.stride)
        return self._views[key]


def bytes_per_client(program: Program, width: int, itemsize: int) -> int:
    """Bytes of activations, their gradients and what layers save for one client."""
    kept = _elements(program, range(len(program.shapes)))
    kept += sum(record.kept(program.shapes) for record in program.records)
    learning = _elements(program, program.learning)
    return width * itemsize * (kept + 2 * learning)


def _elements(program: Program, values: Iterable[int]) -> int:
    return sum(prod(program.shapes[v]) for v in values)


class _Scratch:
    """One flat buffer for contributions that must be added to what is already collected."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.memory = torch.empty(0, dtype=dtype, device=device)

    def like(self, t: Tensor) -> Tensor:
        if self.memory.numel() < t.numel():
            self.memory = torch.empty(t.numel(), dtype=t.dtype, device=t.device)
        return self.memory[: t.numel()].view(t.shape)


def _buffers(
    program: Program, clients: int, width: int, dtype: torch.dtype, device: torch.device, all: bool
) -> dict[int, Tensor]:
    """Buffers `[clients, width, ...]` of the values that need memory of their own."""
    learning = program.learning
    made: dict[int, Tensor] = {}
    for record in program.records:
        v = record.output
        if isinstance(record, Reshape) and all:
            continue
        if all or v in learning:
            shape = (clients, width, *program.shapes[v])
            made[v] = torch.zeros(shape, dtype=dtype, device=device)
    return made


@dataclass
class _Tape:
    """One batch of one chunk on its way through the program."""

    path: ProgramPath
    w: Tensor
    carried: Tensor
    g: Tensor
    x: Tensor
    count: Tensor
    keep: bool
    fold: Fold | None
    drawn: Sequence[int] | None
    collected: set[int] = field(default_factory=set)
    pending: list[tuple[int, Tensor]] = field(default_factory=list)
    written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.backend = self.path.backend
        self.clients = self.x.shape[0]

    @cached_property
    def seeds(self) -> Tensor:
        return torch.tensor(self.drawn or (), dtype=torch.int64, device=self.x.device)

    def value(self, v: int) -> Tensor:
        if v == 0:
            return self.x
        record = self.path.sources[v]
        if isinstance(record, Reshape):
            shape = (*self.x.shape[:2], *self.path.program.shapes[v])
            return self.value(record.inputs[0]).view(shape)
        return self.path._values[v][: self.clients]

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        buffers, name = self.path._saved, (key, dtype)
        if name not in buffers or buffers[name].shape[0] < shape[0]:
            buffers[name] = torch.empty(*shape, dtype=dtype, device=self.x.device)
        return buffers[name][: shape[0]]

    def buffer(self, name: str) -> Tensor | None:
        return None if self.keep else self.path.views(self.carried)[name]

    def parameter(self, name: str) -> Tensor:
        held = self.path.layout.aliases.get(name, name)
        return self.path.views(self.w)[held]

    def sink(self, name: str) -> Sink:
        held = self.path.layout.aliases.get(name, name)
        out, fold = self.path.views(self.g)[held], self.fold
        alpha = 1.0 if fold is None else fold.alpha
        if held in self.written:  # a tied weight: its second layer adds to the first
            return Sink(out, alpha, 1.0, out)
        self.written.add(held)
        if fold is None:
            return Sink(out)
        return Sink(out, alpha, fold.beta, self.path.views(fold.base)[held])

    def needs(self, v: int) -> bool:
        return v in self.path.learning

    def own_gradient(self, v: int) -> Tensor:
        """The gradient buffer of v, about to be written whole."""
        self.collected.add(v)
        return self.path._gradients[v][: self.clients]

    def gradient(self, v: int) -> Tensor:
        return self.path._gradients[v][: self.clients]

    def collect(self, v: int) -> Tensor | None:
        if not self.needs(v):
            return None
        if v not in self.collected:
            return self.own_gradient(v)
        part = self.path._scratch.like(self.gradient(v))
        self.pending.append((v, part))
        return part

    def settle(self) -> None:
        """Add what the last record left in scratch to what was collected before."""
        for v, part in self.pending:
            total = self.gradient(v).flatten(1)
            kernels.mix(total, part.flatten(1), out=total, backend=self.backend)
        self.pending.clear()
