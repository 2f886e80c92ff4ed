"""Paired tests over seeds: the same seed, split and initial weights under two algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

# With fewer pairs no outcome of Wilcoxon's test has a p below 0.05: its smallest is 2 / 2^n.
WILCOXON_PAIRS = 6
LEVEL = 0.95


@dataclass(frozen=True)
class PairedTest:
    """Ours minus theirs over the seeds that both have; nan where there are too few.

    difference  mean over the pairs
    low, high   its 95 % confidence interval, Student's t with pairs - 1 degrees of freedom
    t           p of the paired t-test, two-sided (`scipy.stats.ttest_rel`)
    wilcoxon    p of Wilcoxon's signed-rank test (`scipy.stats.wilcoxon`), from 6 pairs on
    t_holm, wilcoxon_holm  the same p corrected for the number of groups that are tested
    seeds       those that were paired
    """

    seeds: tuple[int, ...]
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    t: float = math.nan
    wilcoxon: float = math.nan
    t_holm: float = math.nan
    wilcoxon_holm: float = math.nan


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> PairedTest:
    """The tests of values by seed. No interval and no p where all differences are equal."""
    seeds = tuple(s for s in ours if s in theirs and math.isfinite(ours[s] - theirs[s]))
    a, b = (np.array([values[seed] for seed in seeds]) for values in (ours, theirs))
    if not seeds:
        return PairedTest(seeds)
    mean = float(np.mean(a - b))
    if len(seeds) < 2:
        return PairedTest(seeds, mean)
    if np.ptp(a - b) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return PairedTest(seeds, mean)  # no spread to test against
    return _tested(seeds, a, b)


def _tested(seeds: tuple[int, ...], a: np.ndarray, b: np.ndarray) -> PairedTest:
    from scipy import stats

    found = stats.ttest_rel(a, b)
    interval = found.confidence_interval(LEVEL)
    rank = stats.wilcoxon(a, b).pvalue if len(seeds) >= WILCOXON_PAIRS else math.nan
    return PairedTest(
        seeds,
        float(np.mean(a - b)),
        float(interval.low),
        float(interval.high),
        float(found.pvalue),
        float(rank),
    )


def corrected(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests with Holm's correction over all of them."""
    t, rank = (holm([getattr(test, name) for test in tests]) for name in ("t", "wilcoxon"))
    return [
        replace(test, t_holm=p, wilcoxon_holm=q) for test, p, q in zip(tests, t, rank, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times m - i + 1, made monotone.

    nan is no test: it stays nan, and is not counted in m. Holm, Scandinavian Journal of Statistics
    6 (1979).
    """
    order = sorted((i for i, value in enumerate(p) if not math.isnan(value)), key=lambda i: p[i])
    adjusted, largest = list(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted
