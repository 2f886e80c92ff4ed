"""From the arguments of a schema to a call of the public function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ..kernels import Segments, Server
from ..kernels._args import bank_like
from ..kernels.declaration import In, Operation
from .schema import SEGMENT_FIELDS, SERVER_FIELDS, Overload, result_of

Given = dict[str, Any]  # by name, of the types that schemas have; torch has checked them


def adapted(
    operation: Operation, overload: Overload, target: Callable[..., Tensor], traced: bool
) -> Callable[..., object]:
    """A kernel for `torch.library` that calls `target`, which has the public signature.

    traced   tensors may have no memory: `target` is a fake
    """
    names = _positional(overload.schema)
    result = result_of(operation)
    new = overload.writes == "new" and result is not None and bool(result.default)

    def kernel(*args: object, **given: object) -> object:
        given.update(zip(names, args, strict=False))
        given = {name: value for name, value in given.items() if value is not None}
        _refuse_gradients(operation.name, given)
        _join(operation, given, traced)
        if new and result is not None:
            given[result.name] = _room(operation, given)
        returned = target(**given)
        if not traced and operation.name == "aggregate" and "server" not in given:
            returned[-1:].zero_()  # NaN in the public function, which opcheck calls unequal to NaN
        return returned if overload.writes == "new" else None

    return kernel


def _positional(schema: str) -> list[str]:
    """Names of the arguments in front of the `*`."""
    arguments = schema[1 : schema.index(") ->")].split(", ")
    cut = arguments.index("*") if "*" in arguments else len(arguments)
    return [argument.split()[1].partition("=")[0] for argument in arguments[:cut]]


def _refuse_gradients(name: str, given: Given) -> None:
    if torch.is_grad_enabled() and any(t.requires_grad for t in _tensors(given)):
        raise RuntimeError(
            f"fedfast::{name} is not differentiable, and one of its arguments requires grad: "
            "call it under torch.no_grad(), or with tensors that are detached"
        )


def _tensors(given: Given) -> Iterator[Tensor]:
    for value in given.values():
        items = value if isinstance(value, (list, tuple)) else (value,)
        yield from (item for item in items if isinstance(item, Tensor))


def _join(operation: Operation, given: Given, traced: bool) -> None:
    """Put together what schemas take apart: terms, segments, server."""
    if "terms" in given:
        given["terms"] = _terms(given["terms"], given.pop("coefficients", None))
    table = [given.pop(name, None) for name in SEGMENT_FIELDS]
    if table[0] is not None:
        device = "cpu" if traced else next(_tensors(given)).device
        given["segments"] = _segments(*(None if t is None else tuple(t) for t in table), device)
    numbers = {f.name: given.pop(n) for n, f in SERVER_FIELDS.items() if n in given}
    if "rule" in numbers:
        given["server"] = Server(**numbers)
    if traced and isinstance(given.get("rho"), float):  # tables of numbers are not to be touched
        given["rho"] = given["w"].new_empty(())


def _terms(terms: Sequence[Tensor], coefficients: Sequence[object] | None) -> object:
    if coefficients is None:
        return terms
    if len(coefficients) != len(terms):
        raise ValueError(
            f"coefficients: expected one for each of {len(terms)} terms; got {len(coefficients)}"
        )
    return list(zip(terms, coefficients, strict=True))


@lru_cache(maxsize=64)
def _segments(
    offset: tuple[int, ...],
    length: tuple[int, ...] | None,
    is_weight: tuple[bool, ...] | None,
    device: torch.device | str,
) -> Segments:
    """The table, made once; a real one also while torch traces."""
    if length is None:
        raise ValueError("length: expected one number for each of offset; got None")
    with _disable_current_modes():
        return Segments.of(offset, length, is_weight, device)


def _room(operation: Operation, given: Given) -> Tensor:
    """A new `[K, S]`; K from the first operand that is a bank."""
    banks = [a.name for a in operation.items if isinstance(a, In) and a.shape == "K S"]
    first, *others = [given[name] for name in banks if name in given]
    terms = [t[0] if isinstance(t, tuple) else t for t in given.get("terms", ())]
    like = bank_like(banks[0], first, [*terms, *others])
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)
