"""Makes the body of a public function out of its declaration, once, at import.

As `dataclasses` does, source is written and compiled: one straight line of checks, without loops
over declarations at each call. Tracebacks show it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import update_wrapper
from inspect import Parameter
from typing import ParamSpec, TypeVar

import torch

from . import _args, _blocks, _scalars
from ._source import compiled
from .declaration import (
    Argument,
    Base,
    Choice,
    Layers,
    Made,
    Number,
    Operation,
    Out,
    PerClient,
    Require,
    Squares,
    Terms,
    accepts_none,
)
from .registry import Implementations, choose

P = ParamSpec("P")
R = TypeVar("R")

# What the generated lines call; arguments may have these names, so theirs begin with "_".
_HELPERS = {
    f"_{helper.__name__}": helper
    for helper in (
        _args.as_terms,
        _args.bank_like,
        _args.chosen,
        _args.output,
        _args.output64,
        _args.per_client,
        _args.placed_or_bank,
        _args.placed_or_output,
        _args.placed_or_rows,
        _args.rows,
        _args.split_terms,
        _args.within,
        _blocks.block,
        _blocks.extent,
        _blocks.float64_per_client,
        _blocks.floating,
        _blocks.integers,
        _blocks.written,
        _scalars.flag,
        _scalars.missing,
        _scalars.number,
        choose,
    )
}


def public(
    operation: Operation, function: Callable[P, R], instead: Mapping[str, object] | None = None
) -> Callable[P, R]:
    """`function` with its own signature and docstring, and the declared checks for a body.

    instead   other helpers and checks (`_check_NAME`) for the generated lines, as for the checks
              alone on tensors without memory
    """
    parameters = inspect.signature(function).parameters
    required = {name for name, p in parameters.items() if not accepts_none(p)}
    scope: dict[str, object] = dict(_HELPERS, _implementations=Implementations(operation))
    lines = [*_Checks(operation, scope, required), *_call(operation)]
    scope |= instead or {}
    body = "".join(f"    {line}\n" for line in lines)
    made = compiled(operation.name, f"def {operation.name}({_head(parameters)}):\n{body}", scope)
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return update_wrapper(made, function)


def _head(parameters: Mapping[str, Parameter]) -> str:
    """Names of the parameters; the defaults are put in place afterwards."""
    parts, keywords = [], False
    for p in parameters.values():
        if p.kind is p.KEYWORD_ONLY and not keywords:
            parts.append("*")
            keywords = True
        parts.append(p.name if p.default is p.empty else f"{p.name}=None")
    return ", ".join(parts)


def _call(operation: Operation) -> Iterator[str]:
    """The lines that choose an implementation, call it and return."""
    by = operation.by or operation.like
    yield f"_implementations[_choose(backend, {by})]({', '.join(operation.names)})"
    if operation.returns:
        yield f"return {', '.join(operation.returns)}"


class _Checks:
    """The lines that bring every argument into the form that implementations take."""

    def __init__(self, operation: Operation, scope: dict[str, object], required: set[str]) -> None:
        self.operation, self.scope, self.like = operation, scope, operation.like
        self.required = required
        self.bound: set[str] = set()
        self.shapes: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        first, before = self.operation[self.like], True
        if any(isinstance(item, Terms) for item in self.operation.items):
            yield "terms = _split_terms(terms)"
        for item in self.operation.items:
            if before and not isinstance(item, Require):
                yield from self._first(first)
                before = False
            if item is not first:
                yield from self._lines(item)

    def _lines(self, item: Argument) -> Iterator[str]:
        if isinstance(item, Require):
            yield f"{self._function(item)}({', '.join(item.using.split())})"
        elif isinstance(item, Made):
            yield f"{', '.join(item.name.split())} = {self._custom(item)}"
            self.bound |= set(item.name.split())
        elif not item.ready and (type(item) is not Argument or item.check):
            yield from self._letters(item)
            yield f"{item.name} = {self._value(item)}"
            yield from self._bound_by(item)
            self._known(item)

    def _function(self, item: Argument) -> str:
        name = f"_check_{item.name.replace(' ', '_')}"
        self.scope[name] = item.check
        return name

    def _custom(self, item: Argument) -> str:
        own = (repr(item.name), item.name) if item.public else ()
        return f"{self._function(item)}({', '.join((*own, *item.using.split()))})"

    def _first(self, item: Argument) -> Iterator[str]:
        """The operand whose dtype, device and letters all others are held to."""
        name, letters = item.name, item.shape.split()
        if item.check:
            yield f"{name} = {self._custom(item)}"
        elif letters == ["K", "S"]:
            helper = "_placed_or_bank" if item.placed else "_bank_like"
            yield f"{name} = {helper}({name!r}, {name}, ({self._others(item)}))"
        else:
            yield f"{name} = _floating({name!r}, {name}, {', '.join(letters)!r})"
        if isinstance(item, Out):
            yield f"{name} = _written({name!r}, {name}, {name}.shape, {name})"
        yield from self._unpacked(name, letters)
        self._known(item)

    def _unpacked(self, name: str, letters: list[str]) -> Iterator[str]:
        self.bound |= set(letters)
        if "..." not in letters:
            yield f"{', '.join(letters)}, = {name}.shape"
            return
        at, shape = letters.index("..."), f"{name}.shape"
        behind = len(letters) - at - 1
        yield f"{', '.join(letters[:at])}, = {shape}[:{at}]"
        yield f"rest = {shape}[{at}:{-behind or ''}]"
        if behind:
            yield f"{', '.join(letters[at + 1 :])}, = {shape}[{-behind}:]"

    def _others(self, first: Argument) -> str:
        """The banks that tell K where the first operand is a row that all clients share."""
        others = ["*[pair[0] for pair in terms]"] if "terms" in self.operation.names else []
        others += [a.name for a in self.operation.items if a.shape == "K S" and a is not first]
        return "".join(f"{name}, " for name in others)

    def _letters(self, item: Argument) -> Iterator[str]:
        """Letters that this tensor is the first to have."""
        letters = item.shape.split()
        if item.check or isinstance(item, (PerClient, Base)):
            return
        for place, letter in enumerate(letters):
            if letter == "..." and "..." not in self.bound:
                behind = len(letters) - place - 1
                yield f"rest = getattr({item.name}, 'shape', ())[{place}:{-behind or ''}]"
            elif letter.isalpha() and letter not in self.bound:
                yield f"{letter} = _extent({item.name}, {place - len(letters)})"
        self.bound |= set(letters)

    def _bound_by(self, item: Argument) -> Iterator[str]:
        """Letters of a tensor that its own check has brought into form."""
        if isinstance(item, Layers) and not item.optional:
            yield f"L = {item.name}.count"
            self.bound.add("L")
        for place, letter in enumerate(item.shape.split()):
            if item.check and not item.optional and letter.isalpha() and letter not in self.bound:
                yield f"{letter} = {item.name}.shape[{place}]"
                self.bound.add(letter)

    def _known(self, item: Argument) -> None:
        if not item.optional and item.shape:
            self.shapes.setdefault(item.shape, item.name)

    def _shape(self, item: Argument) -> str:
        if item.shape in self.shapes:
            return f"{self.shapes[item.shape]}.shape"
        letters = [letter.replace("...", "*rest") for letter in item.shape.split()]
        return f"({', '.join(letters)},)"

    def _value(self, item: Argument) -> str:
        name = item.name
        if item.check:
            value = self._custom(item)
        elif isinstance(item, Out):
            return self._output(item)
        elif isinstance(item, Base):
            given = f"_block({name!r}, {name}, {item.of}.shape, {self.like})"
            return f"{item.of} if {name} is None or {item.of} is None else {given}"
        elif isinstance(item, Terms):
            value = f"_as_terms({name}, {self.like})"
        elif isinstance(item, Layers):
            value = f"_within({name}, {self.like})"
        elif isinstance(item, PerClient):
            value = f"_per_client({name!r}, {name}, {self.like})"
        elif isinstance(item, Squares):
            return f"_float64_per_client({name!r}, {name}, {self.like})"
        elif isinstance(item, Number):
            helper = "_flag" if item.type is bool else "_number"
            fine = f"{name}.__class__ is {item.type.__name__}"
            value = f"{name} if {fine} else {helper}({name!r}, {name})"
        elif isinstance(item, Choice):
            self.scope[f"_options_{name}"] = item.options
            return f"_chosen({name!r}, {name}, _options_{name})"
        else:
            value = self._tensor(item)
        return f"None if {name} is None else {value}" if item.optional else value

    def _tensor(self, item: Argument) -> str:
        name = item.name
        if item.shape == "K S":
            return f"{'_placed_or_rows' if item.placed else '_rows'}({name!r}, {name}, {self.like})"
        if item.dtype is not None:
            self.scope[f"_dtype_{name}"] = item.dtype
            return f"_integers({name!r}, {name}, {self._shape(item)}, _dtype_{name}, {self.like})"
        return f"_block({name!r}, {name}, {self._shape(item)}, {self.like})"

    def _output(self, item: Out) -> str:
        name = item.name
        default = f"_missing({name!r})" if name in self.required else item.default
        given = f"{default} if {name} is None else {name}" if default else name
        if item.dtype is torch.float64:
            value = f"_output64({name!r}, {given}, {self._shape(item)}, {self.like})"
        elif item.shape == "K S":
            helper = "_placed_or_output" if item.placed else "_output"
            value = f"{helper}({name!r}, {given}, {self.like})"
        else:
            value = f"_written({name!r}, {given}, {self._shape(item)}, {self.like})"
        return f"None if {name} is None else {value}" if item.optional else value
