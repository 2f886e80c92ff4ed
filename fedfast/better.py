"""Which columns of a history are numbers, and whether more of one is better."""

from __future__ import annotations

from collections.abc import Iterable

from ._messages import unknown
from .history import FIELDS, READ

COLUMNS = tuple(name for name, kind in READ.items() if kind is float)  # of every history
MORE = ("accuracy", "pooled", "worst")  # what columns end in of which more is better


def sign(column: str) -> int:
    """1 where more is better: accuracies, cosines, speed. -1 for all else: losses, drift, ..."""
    more = column.endswith(MORE) or "cosine" in column or column == "clients_per_second"
    return 1 if more else -1


def check_column(kind: str, name: object, columns: Iterable[str]) -> None:
    """Raise ValueError naming `kind` unless `name` is a number of every round, or a metric's.

    columns  of a history or of several, those of metrics among them
    """
    known = [*COLUMNS, *(column for column in columns if column not in FIELDS)]
    if name not in known:
        raise unknown(kind, name, dict.fromkeys(known))
