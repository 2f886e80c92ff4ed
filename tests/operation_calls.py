"""Calls of an operation, made from its declaration and a form.

What is written lies between guards, poisoned with NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from fedfast.kernels import PlacedRows, Segments
from fedfast.kernels.declaration import OPERATIONS, Argument, Base, InOut, Out, PerClient, Squares
from fedfast.kernels.placed import dense
from operation_inputs import BEFORE, GAP, Draw, Form, in_rows, poison_of
from torch import Tensor

from fedfast import kernels


@dataclass(eq=False)
class Call:
    """One call of an operation: its arguments, and how to look at what it did."""

    draw: Draw
    arguments: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Tensor | PlacedRows] = field(default_factory=dict)
    guards: dict[str, Tensor] = field(default_factory=dict)

    def run(self, backend: str) -> dict[str, Tensor]:
        """What is written and returned, by name."""
        function = getattr(kernels, self.draw.operation.name)
        returned = function(**self.arguments, backend=backend)
        found = {name: dense(value) for name, value in self.written.items()}
        if isinstance(returned, Tensor | PlacedRows):
            found["returned"] = dense(returned)
        return found

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that must stay as it is."""
        for name, value in self.arguments.items():
            if name not in self.written:
                yield from ((name, t) for t in tensors(value))

    def guarded_run(self, backend: str) -> dict[str, Tensor]:
        """`run`, and nothing but what is declared to be written has changed."""
        before = [(name, t.clone()) for name, t in self.read()]
        found = self.run(backend)
        for (name, old), (_, new) in zip(before, self.read(), strict=True):
            assert equal(old, new), f"{name} is only read, and has changed"
        for name, value in self.written.items():
            flat, own = self.guards[name], torch.zeros_like(self.guards[name], dtype=torch.bool)
            if isinstance(value, PlacedRows):
                own[value.places] = True
            else:
                own.as_strided(value.shape, value.stride(), BEFORE).fill_(True)
            outside = flat[~own]
            assert equal(outside, torch.full_like(outside, poison_of(flat.dtype))), (
                f"{name}: written outside of its memory"
            )
        return found

    def client(self, k: int) -> Call:
        """The call for client k alone, in its own part of everything."""
        clients = self.draw.clients
        for name, value in self.arguments.items():
            letters = self.draw.operation[name].shape.split()
            if name in self.written and letters[0] != "K" and isinstance(value, Tensor):
                inout = isinstance(self.draw.operation[name], InOut)
                self.arguments[name] = value if inout else None
            else:
                self.arguments[name] = one_of(value, k, clients)
        self.written = {n: v for n in self.written if (v := self.arguments[n]) is not None}
        return self

    def on(self, device: torch.device) -> Call:
        """The call there: what shares memory shares it again, and lies in it alike."""
        memory: dict[int, Tensor] = {}
        moved = {id(t): _there(t, device, memory) for t in self._memory()}
        self.arguments = {n: _replaced(v, moved) for n, v in self.arguments.items()}
        self.written = {n: _replaced(v, moved) for n, v in self.written.items()}
        self.guards = {n: _replaced(v, moved) for n, v in self.guards.items()}
        return self

    def _memory(self) -> Iterator[Tensor]:
        for value in (*self.arguments.values(), *self.written.values(), *self.guards.values()):
            yield from tensors(value)

    def alias(self, to: str, operand: str) -> None:
        """Write `to` into the memory of an operand."""
        memory = self.arguments[operand]
        if isinstance(memory, list):
            memory = memory[0][0]
        self.arguments[to] = self.written[to] = memory

    def spoil(self, k: int, bad: float) -> str:
        """Put `bad` into client k's part of an operand; its name."""
        for name in ("terms", *self.arguments):
            value = self.arguments.get(name)
            value = value[0][0] if name == "terms" and value else value
            own = isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1
            if own and name not in self.written and value.shape[0] == self.draw.clients:
                value[k].view(-1)[min(value[k].numel() // 2 + 2, value[k].numel() - 1)] = bad
                return name
        return ""


def one_of(value: Any, k: int, clients: int) -> Any:
    """Client k's part of every `[K, ...]` inside an argument; the view keeps its memory."""
    if isinstance(value, Tensor | PlacedRows):
        return value[k : k + 1] if value.ndim and value.shape[0] == clients else value
    if isinstance(value, (list, tuple)):
        return type(value)(one_of(item, k, clients) for item in value)
    return value


def equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, a NaN equal to a NaN."""
    return torch.equal(
        a.nan_to_num(12345.0) if a.is_floating_point() else a,
        b.nan_to_num(12345.0) if b.is_floating_point() else b,
    )


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside an argument."""
    if isinstance(value, PlacedRows):
        yield from (value.table, value.places)
    elif isinstance(value, Segments):
        yield from (value.offset, value.length, value.is_weight)
    elif isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def _there(t: Tensor, device: torch.device, memory: dict[int, Tensor]) -> Tensor:
    """`t` on the device, a view of all its memory there."""
    storage = t.untyped_storage()
    if storage.data_ptr() not in memory:
        memory[storage.data_ptr()] = torch.empty(0, dtype=t.dtype).set_(storage).to(device)
    whole = memory[storage.data_ptr()]
    return whole.as_strided(t.shape, t.stride(), t.storage_offset())


def _replaced(value: Any, moved: dict[int, Tensor]) -> Any:
    """An argument with other tensors in it."""
    if isinstance(value, Tensor):
        return moved[id(value)]
    if isinstance(value, PlacedRows):
        return PlacedRows(moved[id(value.table)], moved[id(value.places)])
    if isinstance(value, Segments):
        return Segments(*(moved[id(t)] for t in (value.offset, value.length, value.is_weight)))
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(item, moved) for item in value)
    return value


def make(
    operation: str,
    form: Form,
    clients: int,
    dtype: torch.dtype = torch.float32,
    rounding: torch.dtype | None = None,
    **options: Any,
) -> Call:
    """A call of that form; equal arguments give equal numbers in memory of their own."""
    declared = OPERATIONS[operation]
    call = Call(Draw(declared, form, clients, dtype, rounding or dtype, **options))
    without = form.get("without", "").split()
    for item in sorted((i for i in declared.items if i.public), key=lambda i: isinstance(i, Base)):
        if item.name in form:
            given = form[item.name]
            call.arguments[item.name] = given(call.draw) if callable(given) else given
        elif item.name in without:
            call.arguments[item.name] = None
        elif (value := _drawn(item, call)) is not None:
            call.arguments[item.name] = value
        _know(item, call)
    return call


def _drawn(item: Argument, call: Call) -> Any:
    draw = call.draw
    if isinstance(item, PerClient):
        return draw.vector()
    if not item.shape:
        return None
    shape = draw.shape(item.shape)
    dtype = item.dtype or draw.dtype
    if isinstance(item, Base) or not item.written:
        return draw.operand(*shape) if item.shape.startswith("K") else draw.numbers(*shape)
    if isinstance(item, InOut):
        return draw.numbers(*shape).to(dtype)
    return torch.full(shape, poison_of(dtype)).to(dtype)


def _know(item: Argument, call: Call) -> None:
    """What is written lies between guards, with gaps between clients where these are allowed."""
    value = call.arguments.get(item.name)
    if isinstance(item, Out) and isinstance(value, PlacedRows):
        call.written[item.name], call.guards[item.name] = value, value.table
    if not isinstance(item, Out | Squares) or not isinstance(value, Tensor):
        return
    apart = item.shape.split()[0] == "K" and value.ndim > 1 and item.dtype is None
    gap = GAP if call.draw.layout == "mixed" and apart else 0
    flat, view = in_rows(value, gap) if apart else in_rows(value[None], 0)
    call.guards[item.name] = flat
    call.written[item.name] = call.arguments[item.name] = view if apart else view[0]
