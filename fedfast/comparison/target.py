"""When runs reach a target, and which target all of them reach."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Final, Literal

from .._messages import format_value
from ..better import sign
from ..history import History
from ..report.summaries import PERCENT

Aim = float | Literal["baseline"] | None
BASELINE: Final = "baseline"  # the target is what the baseline comes to
STEP = 1e4  # a chosen target has four decimals: the one that is printed is the one that was used


@dataclass(frozen=True)
class Reached:
    """When a run first reached a target: infinite where it never did.

    round  the first tested round whose value is as good
    bytes  sent to clients and received from them until then, that round included
    """

    round: float
    bytes: float

    def __bool__(self) -> bool:
        return math.isfinite(self.round)


def reached(history: History, metric: str, target: float) -> Reached:
    """When a run reached `target`, an accuracy from 0 to 1 or a loss; in a tested round."""
    sent = 0
    for row, value in zip(history, history.column(metric), strict=True):
        sent += row.bytes_down + row.bytes_up
        if sign(metric) * value >= sign(metric) * target:
            return Reached(row.round, sent)
    return Reached(math.inf, math.inf)


def entire(history: History) -> Reached:
    """The last round of a run, and all bytes."""
    sent = sum(row.bytes_down + row.bytes_up for row in history)
    return Reached(history.last().round, sent)


def medians(runs: Iterable[Reached]) -> Reached:
    """Medians over seeds. A run that never reached the target counts as later than all others.

    So the median is infinite where half of the runs or more did not, and not biased towards the
    fast ones where fewer did not.
    """
    found = list(runs)
    return Reached(median(r.round for r in found), median(r.bytes for r in found))


def common_target(groups: Sequence[Sequence[History]], metric: str) -> float | None:
    """The best value, of four decimals, that more than half of the runs of every group reach.

    Groups of which half or more have no value at all are left out; None where all are.
    """
    bests = [median_low([_best(history, metric) for history in runs]) for runs in groups]
    finite = [best for best in bests if math.isfinite(best)]
    if not finite:
        return None
    found = math.floor(min(finite) * STEP) / STEP
    return sign(metric) * (found if found <= min(finite) else found - 1 / STEP)


def _best(history: History, metric: str) -> float:
    values = [sign(metric) * v for v in history.column(metric) if not math.isnan(v)]
    return max(values, default=-math.inf)


def parse_target(target: float | str | None, metric: str) -> Aim:
    """0.8 from 0.8, "0.8" and "80%"; "baseline" and None as they are.

    Raises ValueError for what is no target of the metric.
    """
    if target is None or target == BASELINE:
        return target  # type: ignore[return-value]  # a str that is equal to the literal
    text = str(target).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if (
        isinstance(target, bool)
        or not math.isfinite(value)
        or (text.endswith("%") and metric not in PERCENT)
    ):
        kind = "an accuracy such as 0.8 or 80%" if metric in PERCENT else "a number"
        raise ValueError(f"target: expected {kind}, or {BASELINE}; got {format_value(target)}")
    if metric in PERCENT and not 0 <= value <= 1:
        hint = f"; did you mean {text}%?" if 1 < value <= 100 and not text.endswith("%") else ""
        raise ValueError(f"target: expected an accuracy from 0 to 1; got {text}{hint}")
    return value
