"""Curves of several seeds as one: mean and standard deviation per round, ready to be drawn."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MOST = 300  # points of a curve; of more, neighbours are averaged
AIM = 150  # points that are left then

Floats = NDArray[np.float64]


class Columns(Protocol):
    """What is drawn of a run, `History` for one: `column(name)`, a number per round."""

    def column(self, name: str) -> Sequence[float]:
        """The values of one column, nan where a round has none."""
        ...


@dataclass(frozen=True)
class Band:
    """A measure of one group of runs over its rounds.

    rounds  [T], those in which every run that goes so far has a finite value
    mean    [T], over these runs
    std     [T], over these runs (divided by n - 1), nan where there is one
    count   [T], how many they are
    ends    (round, value) of the last point of each run that ended early
    each    how many neighbouring rounds a point is the mean of
    """

    rounds: Floats
    mean: Floats
    std: Floats
    count: Floats
    ends: tuple[tuple[float, float], ...] = ()
    each: int = 1

    def __len__(self) -> int:
        return len(self.rounds)

    def after(self, start: float) -> Band:
        """The part from round `start` on."""
        ends = tuple(end for end in self.ends if end[0] >= start)
        return replace(self.taken(self.rounds >= start), ends=ends)

    def taken(self, at: NDArray[np.bool_]) -> Band:
        """The points where `at` [T] holds."""
        return self._made(*(c[at] for c in (self.rounds, self.mean, self.std, self.count)))

    def binned(self) -> Band:
        """At most `MOST` points: means of rounds side by side, from the last round backwards.

        What is averaged are means and standard deviations: noise between rounds is smoothed, the
        band stays that of the seeds.
        """
        if len(self) <= MOST:
            return self
        each = math.ceil(len(self) / AIM)
        first = len(self) % each  # a remainder is left out at the start, not at the end
        columns = (self.rounds, self.mean, self.std, self.count)
        rounds, *rest = (column[first:].reshape(-1, each) for column in columns)
        return replace(self._made(rounds[:, -1], *(c.mean(axis=1) for c in rest)), each=each)

    def _made(self, rounds: Floats, mean: Floats, std: Floats, count: Floats) -> Band:
        return replace(self, rounds=rounds, mean=mean, std=std, count=count)


def band(runs: Sequence[Columns], name: str, broken: Container[int] = ()) -> Band:
    """Mean and standard deviation of the column `name` over runs of different seeds.

    broken  which of the runs ended before their last round
    """
    points = [_points(run, name) for run in runs]
    lasts = [max(found, default=0.0) for found in points]
    columns = []
    for t in sorted(set[float]().union(*points)):
        going = [found for found, last in zip(points, lasts, strict=True) if last >= t]
        values = [found[t] for found in going if t in found]
        if len(values) == len(going):
            std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            columns.append((t, float(np.mean(values)), std, float(len(values))))
    rounds, mean, deviation, count = np.array(columns, dtype=float).reshape(-1, 4).T
    return Band(rounds, mean, deviation, count, _ends(points, lasts, broken))


def _ends(
    points: Sequence[dict[float, float]], lasts: Sequence[float], broken: Container[int]
) -> tuple[tuple[float, float], ...]:
    longest = max(lasts, default=0.0)
    early = [i for i, last in enumerate(lasts) if last < longest or i in broken]
    return tuple((lasts[i], points[i][lasts[i]]) for i in early if points[i])


def cumulative_bytes(runs: Sequence[Columns], rounds: Floats) -> Floats:
    """Bytes that server and cohorts have exchanged until each of `rounds`, mean over the runs."""
    per_run = []
    for run in runs:
        sent = np.add(run.column("bytes_down"), run.column("bytes_up"), dtype=float)
        total = dict(zip(map(float, run.column("round")), np.cumsum(sent), strict=True))
        per_run.append([total.get(float(t), math.nan) for t in rounds])
    found = np.array(per_run, dtype=float).reshape(len(runs), -1)
    there = np.isfinite(found)
    return np.where(there, found, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)


def _points(run: Columns, name: str) -> dict[float, float]:
    """Round -> finite value."""
    pairs = zip(run.column("round"), run.column(name), strict=True)
    return {float(t): float(value) for t, value in pairs if math.isfinite(value)}
