"""`@operation(...)`: declares the public function below it and generates its body."""

from __future__ import annotations

from collections.abc import Callable

from .declaration import OPERATIONS, Argument, Operation, Require
from .generate import P, R, public


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
        OPERATIONS[declared.name] = declared
        return public(declared, function)

    return declare
