"""`@operation(...)`: declares the public function below it and generates its body."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter

from .declaration import (
    OPERATIONS,
    Argument,
    In,
    InOut,
    Number,
    Operation,
    PerClient,
    Require,
    Terms,
    accepts_none,
)
from .generate import P, R, public

_NONE_IF_OPTIONAL = In | InOut | Number | PerClient | Terms


def operation(
    *items: Argument,
    returns: str = "",
    moves: str = "",
    like: str = "",
    by: str = "",
    form: str = "",
    out_of_range: str = "",
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare the function below and generate its body; see `Operation`."""

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        first = like or next(item.name for item in items if not isinstance(item, Require))
        module = function.__module__.rpartition(".")[2]
        rest = tuple(returns.split()), moves, first, by, form, out_of_range
        declared = Operation(function.__name__, module, items, *rest)
        check_signature(declared, inspect.signature(function).parameters)
        OPERATIONS[declared.name] = declared
        return public(declared, function)

    return declare


def check_signature(operation: Operation, parameters: Mapping[str, Parameter]) -> None:
    """Raise TypeError naming the argument for which signature and declaration differ."""
    declared = {item.name: item for item in operation.items if item.public}
    names = {*declared, "backend"}
    if set(parameters) != names:
        wrong = ", ".join(sorted(set(parameters) ^ names))
        raise TypeError(f"{operation.name}: {wrong}: not both in the signature and declared")
    if [*parameters][-1] != "backend":
        raise TypeError(f"{operation.name}: backend: not the last parameter")
    for name, item in declared.items():
        if why := _contradiction(item, parameters[name]):
            raise TypeError(f"{operation.name}: {name}: {why}")


def _contradiction(item: Argument, parameter: Parameter) -> str:
    """How an argument's declaration and its parameter differ about None; "" if they agree."""
    none = accepts_none(parameter)
    if parameter.default is None and not none:
        return "its default is None, its annotation has none"
    if item.optional and not none:
        return "declared optional, its annotation has no None"
    must = isinstance(item, _NONE_IF_OPTIONAL) and not item.check  # a check may take None itself
    return "its annotation has None, not declared optional" if must and none > item.optional else ""
