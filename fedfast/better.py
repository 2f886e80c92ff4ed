"""Which columns of a history are numbers, and whether more of one is better."""

from __future__ import annotations

from collections.abc import Iterable

from ._messages import unknown
from .history import FIELDS, READ

COLUMNS = tuple(name for name, kind in READ.items() if kind is float)  # of every history
MODES = {"auto": 0, "max": 1, "min": -1}
MORE = ("accuracy", "pooled", "worst")  # what columns end in of which more is better


class Directed(str):
    """A column's name that carries whether more is better: `sign` 1, or less: -1."""

    __slots__ = ("sign",)
    sign: int


def directed(column: str, mode: str) -> str:
    """The column, of which more is better by "max", less by "min"; "auto": by its name.

    Raises ValueError for another mode.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if not MODES[mode]:
        return column
    made = Directed(column)
    made.sign = MODES[mode]
    return made


def sign(column: str) -> int:
    """1 where more is better: accuracies, cosines, speed. -1 for all else: losses, drift, ..."""
    if isinstance(column, Directed):
        return column.sign
    more = column.endswith(MORE) or "cosine" in column or column == "clients_per_second"
    return 1 if more else -1


def check_column(kind: str, name: object, columns: Iterable[str]) -> None:
    """Raise ValueError naming `kind` unless `name` is a number of every round, or a metric's.

    columns  of a history or of several, those of metrics among them
    """
    known = [*COLUMNS, *(column for column in columns if column not in FIELDS)]
    if name not in known:
        raise unknown(kind, name, dict.fromkeys(known))
