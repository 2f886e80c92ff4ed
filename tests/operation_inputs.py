"""Arguments of an operation, made from its declaration.

A form is a dict: letters of the declared shapes with their sizes, arguments with their values (or
functions of a `Draw` that make them), and under "without" the optional arguments left out. All
other arguments are drawn. What is written lies between guards, poisoned with NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from fedfast.kernels.operation import (
    OPERATIONS,
    Argument,
    Base,
    InOut,
    Operation,
    Out,
    PerClient,
    Squares,
)
from torch import Tensor

from fedfast import kernels

Form = dict[str, Any]


@dataclass(frozen=True)
class Cases:
    """forms by name, and the sizes of letters each is called with.

    small   on every backend: Triton's interpreter takes milliseconds per program
    native  compiled as well
    large   enough work for several threads, (K, sizes)
    """

    forms: dict[str, Form]
    small: tuple[Form, ...]
    native: tuple[Form, ...] = ()
    large: tuple[tuple[int, Form], ...] = ()


GAP = 5  # elements between two clients of a strided tensor
BEFORE = 3  # elements before the first of them
POISON = {torch.int32: -77, torch.int64: -77, torch.uint8: 77}


def poison_of(dtype: torch.dtype) -> Any:
    return POISON.get(dtype, float("nan"))


@dataclass(eq=False)
class Draw:
    """Seeded numbers for one call; the same in every dtype up to `rounding`, whatever the layout.

    layout  "dense"; "mixed": every second operand is one client's part for all, the others have
            other things between the clients; "repeated": the same numbers, dense
    parity  which operands these are
    wiggle  relative random changes of all numbers
    """

    operation: Operation
    form: Form
    clients: int
    dtype: torch.dtype
    rounding: torch.dtype
    layout: str = "dense"
    parity: int = 0
    wiggle: float = 0.0
    operands: int = 0
    sizes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = torch.Generator().manual_seed(7)
        self.noise = torch.Generator().manual_seed(int(self.wiggle * 2**40))
        names = {i.name for i in self.operation.items if i.public} | {"without"}
        self.sizes = {"K": self.clients} | {k: v for k, v in self.form.items() if k not in names}

    def shape(self, letters: str) -> tuple[int, ...]:
        """Sizes for declared letters: numbers, expressions over letters, and "..."."""
        found: list[int] = []
        for letter in letters.split():
            rest = letter == "..."
            found += self.sizes["rest"] if rest else [int(eval(letter, {}, self.form | self.sizes))]
        return tuple(found)

    def numbers(self, *shape: int) -> Tensor:
        """Normal numbers."""
        drawn = torch.randn(shape, generator=self.random, dtype=torch.float64)
        return self.rounded(drawn)

    def vector(self, *shape: int) -> Tensor:
        """Between 0.1 and 1; `[K]` unless a shape is given."""
        shape = shape or (self.clients,)
        return self.rounded(0.1 + 0.9 * torch.rand(shape, generator=self.random).double())

    def rounded(self, drawn: Tensor) -> Tensor:
        """In the operation's dtype, changed by at most `wiggle`."""
        rounded = drawn.to(self.rounding).to(self.dtype)
        if self.wiggle:
            noise = torch.rand(drawn.shape, generator=self.noise, dtype=torch.float64) * 2 - 1
            rounded = rounded * (1 + self.wiggle * noise)
        return rounded

    def integers(self, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        """In [0, high)."""
        return torch.randint(high, shape, generator=self.random).to(dtype)

    def operand(self, *shape: int) -> Tensor:
        """`[K, ...]` normal numbers in the layout of this call."""
        return self.laid_out(self.numbers(*shape))

    def laid_out(self, value: Tensor) -> Tensor:
        self.operands += 1
        if self.layout == "dense" or value.shape[0] != self.clients:
            return value
        if (self.operands + self.parity) % 2:
            return value if self.layout == "repeated" else in_rows(value)[1]
        row = value[:1].expand(value.shape)
        return row.clone() if self.layout == "repeated" else row


def in_rows(value: Tensor, gap: int = GAP) -> tuple[Tensor, Tensor]:
    """(memory, view): the same numbers in rows with poison before, between and behind them."""
    clients = value.shape[0]
    size = value[0].numel() if clients else 0
    flat = torch.full((2 * BEFORE + clients * (size + gap),), poison_of(value.dtype)).to(
        value.dtype
    )
    strides = (size + gap, *torch.empty(value.shape[1:]).stride())
    view = flat.as_strided(value.shape, strides, BEFORE)
    view.copy_(value)
    return flat, view


@dataclass(eq=False)
class Call:
    """One call of an operation: its arguments, and how to look at what it did."""

    draw: Draw
    arguments: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Tensor] = field(default_factory=dict)
    guards: dict[str, Tensor] = field(default_factory=dict)

    def run(self, backend: str) -> dict[str, Tensor]:
        """What is written and returned, by name."""
        function = getattr(kernels, self.draw.operation.name)
        returned = function(**self.arguments, backend=backend)
        found = dict(self.written)
        if isinstance(returned, Tensor):
            found["returned"] = returned
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
    if isinstance(value, Tensor):
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
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


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
    if isinstance(item, Base):
        return draw.operand(*shape)
    if not item.written:
        return draw.operand(*shape)
    start = draw.numbers(*shape).to(dtype) if isinstance(item, InOut) else None
    poisoned = torch.full(shape, poison_of(dtype)).to(dtype) if start is None else start
    return poisoned


def _know(item: Argument, call: Call) -> None:
    """What is written lies between guards, with gaps between clients where these are allowed."""
    value = call.arguments.get(item.name)
    if not isinstance(item, Out | Squares) or not isinstance(value, Tensor):
        return
    apart = item.shape.split()[0] == "K" and value.ndim > 1 and value.dtype == call.draw.dtype
    gap = GAP if call.draw.layout == "mixed" and apart else 0
    flat, view = in_rows(value, gap) if apart else in_rows(value[None], 0)
    call.guards[item.name] = flat
    call.written[item.name] = call.arguments[item.name] = view if apart else view[0]
