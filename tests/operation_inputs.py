"""Forms of operations, and seeded numbers for them.

A form is a dict: letters of the declared shapes with their sizes, arguments with their values (or
functions of a `Draw` that make them), and under "without" the optional arguments left out. All
other arguments are drawn; see `operation_calls.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from fedfast.kernels import PlacedRows
from fedfast.kernels.declaration import Operation
from torch import Tensor

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
# Drawing takes ten times as long as copying. The period is a prime: no two clients have the same.
NORMAL = torch.randn(262_139, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
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
    taken: int = 0
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
        """Normal numbers, which `NORMAL` repeats."""
        count = torch.Size(shape).numel()
        begin = self.taken % len(NORMAL)
        self.taken += count
        first = NORMAL[begin : begin + count]
        whole, rest = divmod(count - len(first), len(NORMAL))
        drawn = torch.cat([first, *[NORMAL] * whole, NORMAL[:rest]])
        return self.rounded(drawn.reshape(shape))

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

    def placed(self, value: Tensor | None = None) -> PlacedRows:
        """The rows of `value`, or of poison, last client first in a table with gaps and others."""
        clients, size = self.shape("K S")
        table = torch.full((clients + 2, size + GAP), poison_of(self.dtype), dtype=self.dtype)
        found = PlacedRows(table[:, :size], torch.arange(clients, 0, -1))
        return found if value is None else found.copy_(value)

    def laid_out(self, value: Tensor) -> Tensor:
        self.operands += 1
        if self.layout == "dense":
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
