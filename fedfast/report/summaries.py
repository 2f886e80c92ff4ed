"""The numbers by which runs are compared, named so that like is compared with like."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..better import sign
from ..history import FIELDS, History

PERCENT = tuple(n for n in FIELDS if n.startswith(("accuracy", "personal_", "local_", "pooled_")))


def number(history: History, column: str, summary: str) -> float:
    """One number of a run; nan where it was not measured (yet).

    column   a column of histories, of metrics too, or one of the algorithm's own scalars;
             accuracies in percent
    summary  over the rounds in which the column has a value: "last"; "best", the largest (the
             smallest where less is better, see `better.sign`); "sum"; "mean-N", of the last N of
             them (or of all, where they are fewer); or "round-N", its value in round N
    """
    values = _column(history, column)
    rounds = [row.round for row, v in zip(history, values, strict=True) if not math.isnan(v)]
    found = [v for v in values if not math.isnan(v)]
    scale = 100.0 if column in PERCENT else 1.0
    if summary == "best" and column in history.columns and sign(column) < 0:
        return scale * min(found, default=math.nan)
    return scale * _summary(found, rounds, summary) if found else math.nan


def tested(history: History, column: str) -> int:
    """In how many rounds the column has a value."""
    return sum(not math.isnan(v) for v in _column(history, column))


def _column(history: History, name: str) -> Sequence[float]:
    return history.column(name) if name in history.columns else history.scalar(name)


def _summary(found: Sequence[float], rounds: Sequence[int], summary: str) -> float:
    kind, _, count = summary.partition("-")
    if kind == "round":
        return dict(zip(rounds, found, strict=True)).get(int(count), math.nan)
    if kind == "mean":
        last = found[-int(count) :]
        return math.fsum(last) / len(last)
    return {"last": found[-1], "best": max(found), "sum": math.fsum(found)}[kind]
