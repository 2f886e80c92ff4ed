"""What an operation is: one declaration, from which everything that repeats its arguments is made.

`@operation(...)` (`operation.py`) stands above the public function, whose signature and docstring
users see. From the declared arguments come its checks and the choice of a backend (`generate.py`),
the call of the compiled module (`native.py`), the search for overlapping memory (`overlap.py`), the
inputs of the generic test and `docs/ops.md`.

Shapes are letters: K clients, S elements of a row, L segments, B rows of a batch, I inputs and O
outputs, C channels or classes, H W sides of an image, T steps, V words, E elements of a word's
vector; "..." any dimensions, which are the same wherever "..." is written. A letter is bound by the
first tensor that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import Parameter
from typing import ClassVar

import torch

Check = Callable[..., object]


@dataclass(frozen=True)
class Argument:
    """An argument of the public function, of the implementations, or of both.

    shape     letters; "" for what is no tensor
    optional  None is passed on as None
    check     `check(name, value, *using)` returns the value in the form implementations take;
              without one the class of the argument and its shape decide
    using     names of arguments (checked if they come before this one) and letters for `check`
    public    whether users pass it; if not, `check(*using)` makes it
    passed    whether implementations take it
    native    whether the compiled operation takes it
    ready     a `Made` of several names has brought it into its form already
    placed    a bank that may be `PlacedRows`; terms always may
    """

    name: str
    shape: str = ""
    dtype: torch.dtype | None = None
    optional: bool = False
    check: Check | None = None
    using: str = ""
    public: bool = True
    passed: bool = True
    native: bool = True
    ready: bool = False
    placed: bool = False

    read: ClassVar[bool] = True
    written: ClassVar[bool] = False


@dataclass(frozen=True)
class In(Argument):
    """A tensor that is read; of the operation's dtype unless another is given."""


@dataclass(frozen=True)
class Base(Argument):
    """What a result is added to; None stands for the output `of` itself."""

    of: str = ""


@dataclass(frozen=True)
class Out(Argument):
    """A tensor that is written; allocated if None, unless `optional` leaves it out then.

    Refused if None where its annotation has no None.

    may      operands that may be exactly its memory
    default  the argument that None stands for
    """

    may: str = ""
    default: str = ""

    read: ClassVar[bool] = False
    written: ClassVar[bool] = True


@dataclass(frozen=True)
class InOut(Out):
    """A tensor that is read and overwritten; never allocated."""

    read: ClassVar[bool] = True


@dataclass(frozen=True)
class PerClient(Argument):
    """A number or `[K]`; implementations take a contiguous `[K]` of the operation's dtype."""

    shape: str = "K"


@dataclass(frozen=True)
class Terms(Argument):
    """Weighted banks, `[(tensor [K, S] or PlacedRows, coefficient [K]), ...]`, 1 to 8 of them."""


@dataclass(frozen=True)
class Layers(Argument):
    """A segment table; None is the whole row, or None if `optional`."""


@dataclass(frozen=True)
class Squares(Argument):
    """None, or float64 `[K]`: receives the sum of squares of what the outputs `of` receive."""

    shape: str = "K"
    dtype: torch.dtype | None = torch.float64
    of: str = ""
    native: bool = False  # a pass of its own there, see `native.py`

    written: ClassVar[bool] = True
    read: ClassVar[bool] = False
    may: ClassVar[str] = ""


@dataclass(frozen=True)
class Number(Argument):
    """A number of that type."""

    type: type = float


@dataclass(frozen=True)
class Choice(Argument):
    """One of some names, as the C++ enum spells them; None is "none" there."""

    options: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Made(Argument):
    """What `check(*using)` makes of other arguments; `name` may be several letters, "P Q"."""

    public: bool = False


@dataclass(frozen=True)
class Require(Argument):
    """`check(*using)`, which raises if these arguments do not go together."""

    public: bool = False
    passed: bool = False


def accepts_none(parameter: Parameter) -> bool:
    """Whether the annotation of a public function's parameter has None."""
    return "None" in str(parameter.annotation)


def sinks(weight: str, bias: str) -> tuple[Argument, ...]:
    """dweight and dbias, each `beta * base + alpha * gradient` or None; bases default to them."""
    return (
        Out("dweight", weight, optional=True, may="weight base_weight"),
        Out("dbias", bias, optional=True, may="base_bias"),
        PerClient("alpha"),
        PerClient("beta"),
        Base("base_weight", weight, of="dweight"),
        Base("base_bias", bias, of="dbias"),
    )


@dataclass(frozen=True, eq=False)
class Operation:
    """A declared operation.

    name, module   of the public function; implementations have the same names in their folder
    items          arguments in the order of checks and of the implementations
    returns        names of what the public function returns
    moves          bytes moved for each element of a client, in words of the table in docs/ops.md
    like           the argument whose dtype and device all others share; it is checked first
    by             the argument whose dtype and device choose the backend; `like` if ""
    form           the one whose dtype chooses the compiled form; `like` if ""
    out_of_range   message of the IndexError for an index out of range, with letters in braces
    arguments      those of implementations, in order; names: theirs
    places         (place among them, places it may be exactly) of everything written
    """

    name: str
    module: str
    items: tuple[Argument, ...]
    returns: tuple[str, ...] = ()
    moves: str = ""
    like: str = ""
    by: str = ""
    form: str = ""
    out_of_range: str = ""
    arguments: tuple[Argument, ...] = field(init=False)
    names: tuple[str, ...] = field(init=False)
    places: tuple[tuple[int, tuple[int, ...]], ...] = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "arguments", tuple(a for a in self.items if a.passed))
        put(self, "names", tuple(a.name for a in self.arguments))
        at = self.names.index
        put(self, "places", tuple((at(to), tuple(map(at, may))) for to, may in self.writes.items()))

    def __getitem__(self, name: str) -> Argument:
        return next(item for item in self.items if item.name == name)

    @property
    def writes(self) -> dict[str, tuple[str, ...]]:
        """What is written, and which operands may be exactly that memory."""
        return {a.name: tuple(a.may.split()) for a in self.arguments if isinstance(a, Written)}


Written = Out | Squares
OPERATIONS: dict[str, Operation] = {}
