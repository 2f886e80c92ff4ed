"""The numbers of a comparison: a line per group, in blocks of groups that learn the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .._messages import unknown
from ..report.summaries import number
from .paired import PairedTest, corrected, paired
from .samples import Group
from .target import Reached, common_target, medians, reached

DEFAULT_BASELINE = "fedavg"


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
class Line:
    """One group.

    final, best, late  last tested value, best value, mean of the last n tested values
    reached            seed -> when it reached the target
    middle             medians of these over the seeds
    relative           middle over the baseline's, nan where one is infinite or there is none
    test               of `late` against the baseline's; None for the baseline itself
    """

    group: Group
    final: Spread
    best: Spread
    late: Spread
    reached: Mapping[int, Reached]
    middle: Reached
    relative: Reached = Reached(math.nan, math.nan)
    test: PairedTest | None = None


@dataclass(frozen=True)
class Block:
    """Groups that learn the same from the same data.

    name      what tells it from other blocks, `alpha=0.1`; "" where there are none
    target    an accuracy from 0 to 1, or a loss; nan where no run has a value
    baseline  the name of the group that the others are compared with; None where it has none
    """

    name: str
    target: float
    baseline: str | None
    lines: tuple[Line, ...]


def block(
    name: str,
    groups: Sequence[Group],
    baseline: Group | None,
    metric: str,
    last: int,
    target: float | None,
) -> Block:
    """The numbers of one block; without a `target` the one that all groups reach."""
    if target is None:
        target = common_target([list(g.histories.values()) for g in groups], metric)
    aim = math.nan if target is None else target
    lines = {group.name: _line(group, metric, last, aim) for group in groups}
    base = lines[baseline.name] if baseline else None
    made = tuple(_against(line, base) for line in lines.values()) if base else tuple(lines.values())
    return Block(name, aim, baseline.name if baseline else None, made)


def with_correction(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks, their tests corrected for the number of all of them."""
    tests = iter(corrected([x.test for b in blocks for x in b.lines if x.test is not None]))
    return tuple(
        replace(b, lines=tuple(replace(x, test=x.test and next(tests)) for x in b.lines))
        for b in blocks
    )


def baseline_of(blocks: Mapping[str, Sequence[Group]], name: str | None) -> dict[str, Group | None]:
    """Block -> its baseline: the group of that name, or of that label where a block has only one.

    Without a name FedAvg, or the first group where there is none. Raises ValueError for a name that
    is none, or a label that is not enough.
    """
    if name is None:
        return {key: _default(of) for key, of in blocks.items()}
    groups = [group for of in blocks.values() for group in of]
    label = next((group.label for group in groups if group.name == name), name)
    if label not in {group.label for group in groups}:
        raise unknown("baseline", name, {n for group in groups for n in (group.name, group.label)})
    return {key: _named(of, name, label) for key, of in blocks.items()}


def _default(groups: Sequence[Group]) -> Group:
    return next((g for g in groups if g.label.lower() == DEFAULT_BASELINE), groups[0])


def _named(groups: Sequence[Group], name: str, label: str) -> Group | None:
    exact = [group for group in groups if group.name == name]
    found = exact or [group for group in groups if group.label == label]
    if len(found) > 1:
        names = ", ".join(repr(group.name) for group in found)
        raise ValueError(f"baseline: expected one group, found several: {names}")
    return found[0] if found else None


def _line(group: Group, metric: str, last: int, target: float) -> Line:
    def spread(summary: str) -> Spread:
        return Spread({s: number(h, metric, summary) for s, h in group.histories.items()})

    when = {seed: reached(history, metric, target) for seed, history in group.histories.items()}
    late = spread(f"mean-{last}")
    return Line(group, spread("last"), spread("best"), late, when, medians(when.values()))


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
