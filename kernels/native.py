"""The compiled module `fedfast._fedfast`, found at first use.

Every operation's call is made out of its declaration and of the list of fields that the module has
for it: letters, numbers and tensors in the order of that list, read from the tensors in C++
(`csrc/bind.h`). The names are compared when the package is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from threading import local
from typing import Any

import torch
from torch import Tensor

from . import overlap
from ._source import compiled
from .declaration import Argument, Choice, Layers, Operation, Squares, Terms, Written
from .placed import PlacedRows, RowsLike
from .reference.common import squared
from .threads import threads

module: Any = None  # it has no stub
try:
    from fedfast import _fedfast

    module = _fedfast
except ImportError as error:  # reported at first use, so that other backends work without it
    reason = str(error)

DTYPES = (torch.float32, torch.float64)
Pair = tuple[RowsLike, Tensor]  # a term: `[K, S]` and its coefficient `[K]`
_KINDS = {
    torch.float64: "double",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.uint8: "uint8",
    None: "float",  # the operation's own: the fields of its float32 form are compared
}
_REMEDY = "rebuild it with 'pip install -e .' (python setup.py build_ext --inplace)"


def require(tensor: Tensor) -> None:
    """Raise RuntimeError without the compiled module, ValueError/TypeError if it cannot serve."""
    if module is None:
        raise RuntimeError(
            "the compiled module fedfast._fedfast is not available "
            f"({reason}); build it with 'pip install -e .' (needs a C++17 compiler), "
            "or choose backend='reference'"
        )
    if tensor.device.type != "cpu":
        raise ValueError(f"backend='native' serves cpu tensors; this one is on {tensor.device}")
    if tensor.dtype not in DTYPES:
        raise TypeError(
            "backend='native' serves float32 and float64; "
            f"got {tensor.dtype} (backend='reference' serves it)"
        )


class Recording(local):
    """While this thread records a `Plan`: the tensors whose addresses it was given."""

    kept: list[Tensor] | None = None


recording = Recording()


def not_recorded(what: str) -> None:
    """Raise TypeError while a plan is recorded: `what` is torch's own, and would be left out."""
    if recording.kept is not None:
        raise TypeError(f"{what} cannot be part of a plan")


def compare(operation: Operation, fields: Iterable[tuple[str, str]]) -> None:
    """Raise ImportError naming a field that the module and the declaration do not share.

    fields  (name, kind): an expression over arguments and letters, and its C++ type in words
    """
    taken = set()
    for name, kind in fields:
        roots = re.findall(r"(?<![\w.])[A-Za-z_]\w*", name)
        for root in roots:
            if root not in operation.names and root not in _letters(operation):
                _refuse(operation, name, "the declaration lacks it")
        if roots == [name] and name in operation.names:
            wanted = _kind(operation[name])
            if wanted is not None and wanted != kind and not kind.endswith("bytes"):
                _refuse(operation, name, f"it is {wanted!r} there, {kind!r} in the module")
        taken |= set(roots)
    for argument in operation.arguments:
        if argument.native and argument.name not in taken:
            _refuse(operation, argument.name, "the module lacks it")


def compare_all(operations: Iterable[Operation]) -> None:
    """`compare` for every operation, if the module is there; ImportError also for one it lacks."""
    if module is None:
        return
    found = module.fields() if hasattr(module, "fields") else {}
    if not hasattr(module, "placed_rows"):
        raise ImportError(
            "fedfast._fedfast: it lacks placed rows; the module was built from other sources: "
            f"{_REMEDY}"
        )
    module.placed_rows(PlacedRows)
    for operation in operations:
        if operation.name not in found:
            _refuse(operation, operation.name, "the module lacks it")
        compare(operation, found[operation.name])


def _refuse(operation: Operation, field: str, why: str) -> None:
    raise ImportError(
        f"fedfast._fedfast: {operation.name}, field {field!r}: {why}; the module was built from "
        f"other sources: {_REMEDY}"
    )


def _kind(argument: Argument) -> str | None:
    """What the module calls a tensor; None for what has no fixed type."""
    if isinstance(argument, Terms):
        return "terms"
    if isinstance(argument, Layers):
        return "layers"
    if not argument.shape or argument.dtype not in _KINDS:
        return None
    return f"{'out' if isinstance(argument, Written) else 'in'} {_KINDS[argument.dtype]}"


def _letters(operation: Operation) -> dict[str, str]:
    """The value of every letter, as an expression over the shapes of tensors always given."""
    found: dict[str, str] = {}
    for argument in sorted(operation.arguments, key=lambda a: a.optional):
        letters = argument.shape.split()
        for place, letter in enumerate(letters):
            behind = len(letters) - place
            if letter == "..." and "rest" not in found:
                found["rest"] = f"{argument.name}.shape[{place}:{1 - behind or ''}].numel()"
            elif letter.isalpha() and letter not in found:
                at = place if "..." not in letters[:place] else -behind
                found[letter] = f"{argument.name}.shape[{at}]"
    return found


@cache
def called(operation: Operation) -> Callable[..., object]:
    """`marshaller`, made once."""
    return marshaller(operation)


def marshaller(operation: Operation) -> Callable[..., object]:
    """The operation's call of the compiled module, with the arguments of an implementation."""
    fields = module.fields()[operation.name]
    compare(operation, fields)
    _tell_aliases(operation, [name for name, _ in fields])
    scope: dict[str, object] = dict(
        call=getattr(module, operation.name),
        threads=threads,
        float64=torch.float64,
        trust=overlap.trust,
        recording=recording,
        overlap=overlap,
        operation=operation,
        keep=_keep,
        squared=_squared,
        clipped=_clip_known,
    )
    lines = "".join(f"    {line}\n" for line in _lines(operation, fields, scope))
    source = f"def {operation.name}({', '.join(operation.names)}):\n{lines}"
    return compiled(operation.name, source, scope)


def _lines(
    operation: Operation, fields: list[tuple[str, str]], scope: dict[str, object]
) -> Iterator[str]:
    names, letters = ", ".join(operation.names), _letters(operation)
    like = operation.form or operation.like
    yield f"if recording.kept is not None: keep(({names},))"
    yield "apart = trust.given"
    extra = [a.name for a in operation.arguments if not a.native and a.shape]
    if extra:  # memory that the module does not see
        yield f"if not apart and ({' or '.join(f'{n} is not None' for n in extra)}):"
        yield f"    overlap.check_overlap(operation, ({names},)); apart = True"
    if operation.name == "step":
        yield "if squares is not None:"
        yield "    terms, lam, clip_norm = clipped(terms, lam, clip_norm, squares, w)"
    values = ", ".join(_value(operation, name, kind, letters, scope) for name, kind in fields)
    head = f"{like}.dtype is float64, {letters['K']}, threads()"
    yield f"fine = call({head}, apart, {values})"
    yield "if fine is None:  # memory may overlap"
    yield f"    overlap.examine(operation, ({names},))"
    yield f"    fine = call({head}, True, {values})"
    for argument in operation.arguments:
        if isinstance(argument, Squares):
            given = ", ".join(argument.of.split())
            yield f"if {argument.name} is not None: squared({argument.name}, {given})"
    if operation.out_of_range:
        scope |= dict(message=operation.out_of_range)
        used = [f"{n}={letters[n]}" for n in re.findall(r"\{(\w)\}", operation.out_of_range)]
        yield f"if not fine: raise IndexError(message.format({', '.join(used)}))"


def _value(
    operation: Operation, name: str, kind: str, letters: Mapping[str, str], scope: dict[str, object]
) -> str:
    if kind.startswith("choice"):
        places = {word: i for i, word in enumerate(kind.split()[1:])}
        argument = operation[name]
        assert isinstance(argument, Choice)
        for option in argument.options:
            if str(option or "none") not in places:
                _refuse(operation, name, f"the module lacks its option {option!r}")
        scope[f"places_{name}"] = {o: places[str(o or "none")] for o in argument.options}
        return f"places_{name}[{name}]"
    return re.sub(r"(?<![\w.])(rest|[A-Z])(?!\w)", lambda m: letters[m[1]], name)


def _tell_aliases(operation: Operation, fields: list[str]) -> None:
    """Which operands may be exactly the memory that is written, passed once to the module."""
    for written, may in operation.writes.items():
        if written in fields:
            bits = sum(1 << fields.index(name) for name in may if name in fields)
            module.may(operation.name, fields.index(written), bits)


def _keep(values: tuple[object, ...]) -> None:
    """A plan holds the tensors whose addresses it was given."""
    assert recording.kept is not None
    recording.kept += overlap.tensors(values)


def _squared(to: Tensor, *written: Tensor | None) -> None:
    """`Squares`, in a pass of its own: the CPU gains nothing from adding them up in the product."""
    not_recorded("squares of gradients")
    squared(to, *written)


def _clip_known(
    terms: Sequence[Pair], lam: Tensor, clip_norm: Tensor, squares: Tensor, w: Tensor
) -> tuple[list[Pair], Tensor, None]:
    """A clip whose norm is known scales the terms; the module then has nothing to clip."""
    from .reference.step import clipped

    shrink = clipped(clip_norm, squares.sum(1).sqrt(), w)[:, 0]
    return [(d, c * shrink) for d, c in terms], lam * shrink, None
