"""What is measured of a round beside its row: functions found by name, each filling some columns.

@ROUND_METRICS.register("spread")
def spread(seen: SeenRound) -> float:          # one column, called "spread"
    return float(seen.squares.max() - seen.squares.min())

@measures("near", "far", needs=("models",))    # two columns, from the clients' models
def distances(seen): return {"near": ..., "far": ...}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from torch import Tensor

from ..._messages import format_value
from ...history import FIELDS, NAME_OF_COLUMN
from ...registry import Registry

if TYPE_CHECKING:
    from .seen_round import SeenRound

NEEDS = ("directions", "models")  # what costs a pass of its own; see `SeenRound`
# Of a metric that yields the tensors that it reads; see `readings`.
Read = Generator[Sequence[Tensor], Sequence[np.ndarray], "float | Mapping[str, float]"]
Measure = Callable[["SeenRound"], "float | Mapping[str, float] | Read"]
F = TypeVar("F", bound=Measure)
ROUND_METRICS = Registry[Measure](
    "metrics", "a function (seen: SeenRound) -> a number, or {column: number}", callable
)


@dataclass(frozen=True)
class RoundMetric:
    """A function under its name, the columns that it fills, and what it reads beyond the sums."""

    name: str
    columns: tuple[str, ...]
    needs: tuple[str, ...]
    measure: Measure

    @property
    def shipped(self) -> bool:
        """Whether it is one of fedfast."""
        return getattr(self.measure, "__module__", "").split(".")[0] == "fedfast"

    def named(self, found: object) -> dict[str, float]:
        """column -> value, of what it answered. Raises TypeError or ValueError for what are no
        values of its columns."""
        if not isinstance(found, Mapping):
            found = {self.columns[0]: found} if len(self.columns) == 1 else {}
        values = cast("Mapping[str, float]", found)
        if set(values) != set(self.columns):
            raise ValueError(
                f"metrics: {self.name}: expected {', '.join(self.columns)}; "
                f"got {', '.join(map(str, values)) or 'a number'}"
            )
        try:
            return {name: float(values[name]) for name in self.columns}
        except (TypeError, ValueError) as error:
            raise TypeError(f"metrics: {self.name}: expected numbers; {error}") from error

    def nothing(self) -> dict[str, float]:
        """Its columns where a round has nothing to measure."""
        return dict.fromkeys(self.columns, math.nan)


def measures(*columns: str, needs: Sequence[str] = ()) -> Callable[[F], F]:
    """Decorator: the columns that a round metric fills, and what of `NEEDS` it reads.

    Raises ValueError for names that cannot be columns and for unknown needs.
    """
    for name in columns:
        _check_column(name)
    for need in needs:
        if need not in NEEDS:
            raise ValueError(f"needs: expected some of {', '.join(NEEDS)}; got {need!r}")

    def mark(function: F) -> F:
        function.columns, function.needs = columns, tuple(needs)  # type: ignore[attr-defined]
        return function

    return mark


def round_metrics(given: object) -> tuple[RoundMetric, ...]:
    """Round metrics by name, as functions, or classes that are made without arguments.

    Raises TypeError or ValueError naming `metrics`: no sequence, an unknown name, what cannot be
    called with a round, two of them that fill one column.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise TypeError(
            'metrics: expected a list of names or functions, as in ["cosine", "drift"]; got '
            f"{format_value(given)}"
        )
    found = tuple(_made(one) for one in given)
    owners: dict[str, str] = {}
    for metric in found:
        for column in metric.columns:
            if column in owners:
                raise ValueError(
                    f"metrics: {metric.name} and {owners[column]} both fill the column {column!r}"
                )
            owners[column] = metric.name
    return found


def _made(given: object) -> RoundMetric:
    if not (isinstance(given, str) or callable(given)):
        raise TypeError(f"metrics: expected names or functions; got {format_value(given)}")
    function: object = ROUND_METRICS.find(given) if isinstance(given, str) else given
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    if isinstance(function, type):
        function = _instance(function)
    assert callable(function)
    try:
        signature(function).bind(None)
    except TypeError as error:
        raise TypeError(f"metrics: {name}: expected to be called with a round; {error}") from None
    columns = tuple(getattr(function, "columns", ())) or (name.rpartition(":")[2],)
    for column in columns:
        _check_column(column)
    return RoundMetric(name, columns, tuple(getattr(function, "needs", ())), function)


def _instance(kind: type) -> object:
    try:
        return kind()
    except TypeError as error:
        raise TypeError(
            f"metrics: {kind.__name__}: expected a class that is made without arguments; {error}"
        ) from None


def _check_column(name: object) -> None:
    if not isinstance(name, str) or not NAME_OF_COLUMN.fullmatch(name):
        raise ValueError(
            f"metrics: expected names of columns of letters, digits and _; got {format_value(name)}"
        )
    if name in (*FIELDS, "algorithm"):
        raise ValueError(f"metrics: {name!r} is a column of every history already")
