"""Schemas of `torch.library`, made of an operation's signature and its declaration.

Names, order, defaults and what may be None are those of the public function; what is written comes
from the declaration. Types that a schema does not have are taken apart:

    Coefficient       a number; a tensor, `[K]` or of one element, in the overload `Tensor`
    TermsLike         `Tensor[] terms`, and `coefficients`, all 1 where they are left out
    Segments, Server  one argument for each of their fields
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from inspect import Parameter

from .. import kernels
from ..kernels.declaration import Made, Operation, Out

SEGMENT_FIELDS = {"offset": "int[]", "length": "int[]", "is_weight": "bool[]"}
SERVER_FIELDS = {
    "server" if f.name == "rule" else f"server_{f.name}": f for f in fields(kernels.Server)
}


@dataclass(frozen=True)
class Overload:
    """One overload of an operation.

    name      as torch.library takes it: "mix", "mix.out", "mix.Tensor", "mix.Tensor_out"
    schema    its arguments and what it returns
    writes    "new": the result is a new tensor; "out": it is written into that argument, "first":
              into the first operand, and nothing is returned
    """

    name: str
    schema: str
    writes: str


def overloads(operation: Operation, function: Callable[..., object]) -> Iterator[Overload]:
    """All overloads of an operation.

    Those with tensors for coefficients come first: torch takes the first that fits, and makes a
    number of a tensor of one element where a number is asked for, which waits for the device.
    """
    parameters = inspect.signature(function).parameters
    both = any(p.annotation.startswith(("Coefficient", "Terms")) for p in parameters.values())
    for kind in ("Tensor", "float") if both else ("float",):
        for writes in _ways(operation):
            parts = ["Tensor"] * (kind == "Tensor") + ["out"] * (writes == "out")
            name = f"{operation.name}{'_' * (writes == 'first')}.{'_'.join(parts)}".rstrip(".")
            arguments = ", ".join(_arguments(operation, parameters, kind, writes))
            returns = "Tensor" if writes == "new" else "()"
            yield Overload(name, f"({arguments}) -> {returns}", writes)


def result_of(operation: Operation) -> Out | None:
    """The user's argument that holds what is returned; None where the operation makes its own."""
    item = operation[operation.returns[0]]
    if isinstance(item, Made):
        item = next(operation[n] for n in item.using.split() if isinstance(operation[n], Out))
    return item if isinstance(item, Out) and item.public else None


def _ways(operation: Operation) -> tuple[str, ...]:
    result = result_of(operation)
    if result is None:
        return ("new",)
    return ("new", "out", "first") if result.default else ("new", "out")


def _arguments(
    operation: Operation, parameters: Mapping[str, Parameter], kind: str, writes: str
) -> Iterator[str]:
    result, letters = result_of(operation), iter("abcdefgh")
    before: list[str] = []
    behind: list[str] = []
    for name, parameter in parameters.items():
        arguments = behind if parameter.kind is Parameter.KEYWORD_ONLY else before
        if parameter.annotation == "TermsLike":
            before.append("Tensor[] terms")
            behind.append(f"{kind}[]? coefficients=None")
        elif parameter.annotation.startswith("Segments"):
            must = parameter.default is Parameter.empty
            arguments += ["int[] offset", "int[] length"] if must else []
            behind += [f"{t}? {n}=None" for n, t in list(SEGMENT_FIELDS.items())[2 * must :]]
        elif parameter.annotation.startswith("Server"):
            arguments += _server()
        elif result is not None and name == result.name:
            if writes == "out":
                behind.append(f"Tensor({next(letters)}!) {name}")
        else:
            first = writes == "first" and result is not None and name == result.default
            written = name != "backend" and operation[name].written or first
            arguments.append(_argument(parameter, kind, f"({next(letters)}!)" if written else ""))
    yield from (*before, *(["*", *behind] if behind else []))


def _server() -> Iterator[str]:
    for name, field in SERVER_FIELDS.items():
        yield f"str? {name}=None" if name == "server" else f"float {name}={field.default!r}"


def _argument(parameter: Parameter, kind: str, written: str) -> str:
    """A schema's argument: `Tensor(a!)? m=None`, `float eps=1e-12`."""
    annotation, default = parameter.annotation, parameter.default
    tensor = annotation.startswith("Tensor") or "Coefficient" in annotation and kind == "Tensor"
    type_ = "Tensor" if tensor else kind if "Coefficient" in annotation else annotation.split()[0]
    if default is Parameter.empty:
        return f"{type_}{written} {parameter.name}"
    none = tensor or default is None
    shown = "None" if none else f'"{default}"' if isinstance(default, str) else repr(default)
    return f"{type_}{written}{'?' * none} {parameter.name}={shown}"
