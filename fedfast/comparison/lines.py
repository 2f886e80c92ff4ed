"""The numbers of a comparison: a line per group, in blocks of groups that learn the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..report.summaries import PERCENT, number
from .paired import PairedTest, corrected, paired
from .samples import Group
from .target import BASELINE, Aim, Reached, common_target, entire, medians, reached


@dataclass(frozen=True)
class Spread:
    """A number of each seed; accuracies in percent."""

    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds; nan where it was not measured in one of them."""
        return float(np.mean(list(self.values.values())))

    @property
    def std(self) -> float:
        """The sample standard deviation, nan for one seed."""
        return (
            float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else math.nan
        )


@dataclass(frozen=True)
class Equal:
    """A group as far as every run of its block went, in rounds or in bytes.

    late     mean of the last n tested values until there
    reached  medians over the seeds of the last tested round until there, and of the bytes it took
    """

    late: Spread
    reached: Reached


@dataclass(frozen=True)
class Line:
    """One group.

    final, best, late  last tested value, best value, mean of the last n tested values
    reached            seed -> when it reached the target
    middle             medians of these over the seeds
    relative           middle over the baseline's, nan where one is infinite or there is none
    test               of `late` against the baseline's; None for the baseline itself
    equal              "rounds" or "bytes" -> where all runs have done, or sent, as much
    """

    group: Group
    final: Spread
    best: Spread
    late: Spread
    reached: Mapping[int, Reached]
    middle: Reached
    relative: Reached = Reached(math.nan, math.nan)
    test: PairedTest | None = None
    equal: Mapping[str, Equal] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Groups that learn the same from the same data.

    name      what tells it from other blocks, `alpha=0.1`; "" where there are none
    target    an accuracy from 0 to 1, or a loss; nan where no run has a value
    baseline  the name of the group that the others are compared with; None where it has none
    whole     whether the target is what the baseline comes to. Its own line then says what its
              whole runs take, and `relative` is over these
    """

    name: str
    target: float
    baseline: str | None
    lines: tuple[Line, ...]
    whole: bool = False


def block(
    name: str,
    groups: Sequence[Group],
    baseline: Group | None,
    metric: str,
    last: int,
    aim: Aim,
) -> Block:
    """The numbers of one block; without an `aim` the target is one that all groups reach."""
    whole = aim == BASELINE
    target = _target(groups, baseline, metric, last, aim)
    lines = {
        group.name: _line(group, metric, last, target, whole and group is baseline)
        for group in groups
    }
    base = lines[baseline.name] if baseline else None
    made = tuple(_against(line, base) for line in lines.values()) if base else tuple(lines.values())
    return Block(name, target, baseline.name if baseline else None, made, whole)


def _target(
    groups: Sequence[Group], baseline: Group | None, metric: str, last: int, aim: Aim
) -> float:
    """The value to reach, nan where there is none."""
    if aim == BASELINE:
        late = _spread(baseline, metric, f"mean-{last}").mean if baseline else math.nan
        return round(late / (100.0 if metric in PERCENT else 1.0), 4)
    if aim is None:
        aim = common_target([list(g.histories.values()) for g in groups], metric)
    return math.nan if aim is None else float(aim)


def with_correction(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks, their tests corrected for the number of all of them."""
    tests = iter(corrected([x.test for b in blocks for x in b.lines if x.test is not None]))
    return tuple(
        replace(b, lines=tuple(replace(x, test=x.test and next(tests)) for x in b.lines))
        for b in blocks
    )


def _line(group: Group, metric: str, last: int, target: float, whole: bool) -> Line:
    """`whole`: the runs count as having reached the target in their last round."""
    when = {
        seed: entire(history) if whole else reached(history, metric, target)
        for seed, history in group.histories.items()
    }
    final, best, late = (_spread(group, metric, s) for s in ("last", "best", f"mean-{last}"))
    return Line(group, final, best, late, when, medians(when.values()))


def _spread(group: Group, metric: str, summary: str) -> Spread:
    return Spread({seed: number(h, metric, summary) for seed, h in group.histories.items()})


def _against(line: Line, base: Line) -> Line:
    ratios = [
        ours / theirs if math.isfinite(ours) and 0 < theirs < math.inf else math.nan
        for ours, theirs in (
            (line.middle.round, base.middle.round),
            (line.middle.bytes, base.middle.bytes),
        )
    ]
    test = None if line is base else paired(line.late.values, base.late.values)
    return replace(line, relative=Reached(*ratios), test=test)
