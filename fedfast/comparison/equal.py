"""Groups beside each other where all of them have trained as many rounds, or sent as many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from .._messages import unknown
from ..history import History
from ..report.summaries import number
from .lines import Block, Equal, Line, Spread
from .target import Reached, medians

KINDS = ("rounds", "bytes")


def parse_equal(equal: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds in `equal`: "rounds", "bytes", or both in a list or divided by commas.

    Raises ValueError for any other.
    """
    kinds = tuple(part for part in equal.split(",") if part) if isinstance(equal, str) else equal
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("equal", kind, KINDS)
    return tuple(dict.fromkeys(kinds))


def with_equal(block: Block, kinds: Sequence[str], metric: str, last: int) -> Block:
    """The block, its lines with what each group came to at equal rounds and bytes."""
    return replace(block, lines=_with(block.lines, kinds, metric, last))


def _with(lines: Sequence[Line], kinds: Sequence[str], metric: str, last: int) -> tuple[Line, ...]:
    limits = {kind: _limit(lines, kind, metric) for kind in kinds}
    return tuple(
        replace(
            line, equal={kind: _equal(line, kind, limits[kind], metric, last) for kind in kinds}
        )
        for line in lines
    )


def _limit(lines: Sequence[Line], kind: str, metric: str) -> float:
    """The most rounds, or bytes, after which every run that was tested was tested once or more."""
    ends = [
        _amounts(tested, kind)[-1]
        for line in lines
        for history in line.group.histories.values()
        if len(tested := _until_tested(history, metric))
    ]
    return min(ends, default=math.nan)


def _equal(line: Line, kind: str, limit: float, metric: str, last: int) -> Equal:
    cut = {
        seed: _until_tested(_until(history, kind, limit), metric)
        for seed, history in line.group.histories.items()
    }
    late = Spread({seed: number(h, metric, f"mean-{last}") for seed, h in cut.items()})
    return Equal(late, medians(map(_end, cut.values())))


def _end(history: History) -> Reached:
    """Round and bytes at a history's end; infinite where nothing was tested until there."""
    if not len(history):
        return Reached(math.inf, math.inf)
    return Reached(history.last().round, _amounts(history, "bytes")[-1])


def _amounts(history: History, kind: str) -> list[float]:
    """Rounds, or bytes in both directions, until each row."""
    if kind == "rounds":
        return [row.round for row in history]
    return list(accumulate(row.bytes_down + row.bytes_up for row in history))


def _until(history: History, kind: str, limit: float) -> History:
    """The rows within the limit."""
    return history[: sum(amount <= limit for amount in _amounts(history, kind))]


def _until_tested(history: History, metric: str) -> History:
    """The rows up to the last with a value."""
    values = history.column(metric)
    return history[: max((i for i, v in enumerate(values, 1) if not math.isnan(v)), default=0)]
