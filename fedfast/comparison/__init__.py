"""Runs beside each other: accuracies over seeds, rounds and bytes to a target, paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from .. import better
from .._messages import format_value
from ..history import FIELDS
from ..report.summaries import tested
from ..validation.values import Count
from .baselines import baseline_of
from .equal import parse_equal, with_equal
from .lines import block, with_correction
from .notes import notes
from .result import Comparison
from .samples import Group, Runs, by_problem, samples
from .target import parse_target

__all__ = ["Comparison", "compare"]
LAST = 10


def compare(
    runs: Runs,
    target: float | str | None = None,
    baseline: str | None = None,
    last: int = LAST,
    metric: str = "accuracy",
    equal: str | Sequence[str] = (),
    mode: str = "auto",
) -> Comparison:
    """Compares runs: final and best values, mean of the last, rounds and bytes to a target.

    runs      folders of runs, found at any depth (see `fedfast.run_records`); or name -> History,
              or a list with one History of each seed, the same seeds in the same places
    target    an accuracy, 0.8 or "80%", or a loss; "baseline", what the baseline comes to (its mean
              of the last rounds over its seeds); without one the best value that more than half of
              the seeds of every group reach. Only rounds in which the model was tested count
    baseline  the group, or the label, that others are compared with; fedavg or else the first
    last      so many of the last tested rounds are averaged
    metric    a column of histories, of metrics too
    equal     "rounds", "bytes", or both: who is ahead where all runs have done, or sent, as much
    mode      whether more of the metric is better, "max" or "min"; "auto": more of accuracies,
              cosines and speed, less of all others

    Groups that differ in data, partition or model have a target and a baseline of their own. Raises
    ValueError or TypeError naming the argument, or the folder without a run.

    >>> from fedfast import History, Row
    >>> slow, fast = ([History(Row(t, accuracy=a * t) for t in (1, 2, 3))] for a in (0.1, 0.2))
    >>> found = compare({"fedavg": slow, "fedsam": fast}, target="30%")
    >>> found.to_pandas()["rounds_to_target"].tolist()
    [3, 2]
    """
    Count()("last", last)
    if baseline is not None and not isinstance(baseline, str):
        raise TypeError(f"baseline: expected a name; got {format_value(baseline)}")
    kinds, found = parse_equal(equal), samples(runs)
    _check_measured(found, metric)
    metric = better.directed(metric, mode)
    aim = parse_target(target, metric)
    blocks = by_problem(found)
    bases = baseline_of(blocks, baseline)
    made = with_correction(
        [block(name, of, bases[name], metric, last, aim) for name, of in blocks.items()]
    )
    made = tuple(with_equal(one, kinds, metric, last) for one in made)
    return Comparison(metric, last, made, aim is not None, tuple(notes(made, metric, last)))


def _check_measured(groups: list[Group], metric: str) -> None:
    """Raises ValueError where no run has a value, naming the columns that have some."""
    histories = list(chain.from_iterable(group.histories.values() for group in groups))
    columns = list(dict.fromkeys(chain.from_iterable(h.columns for h in histories)))
    better.check_column("metric", metric, columns)
    if any(tested(history, metric) for history in histories):
        return
    numbers = [c for c in columns if c in better.COLUMNS or c not in FIELDS]
    there = [c for c in numbers if any(tested(history, c) for history in histories)]
    raise ValueError(f"metric: no run has {metric}; they have {', '.join(there) or 'none at all'}")
