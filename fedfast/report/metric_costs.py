"""What metrics of rounds cost: rounds with each of them, in turns with rounds without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..algorithms import by_name
from ..history import lines
from ..metrics.agreement import ROUND_METRICS, round_metrics
from .costs import CostBenchmark
from .text_table import aligned

# Metrics that other algorithms have nothing to measure for.
CARRIERS = {"delta_eps": "fedgloss", "momentum": "fedcm"}
ALL = "all"
HEADS = ("metric", "algorithm", "ms per round", "ms without", "times", "low", "high")


@dataclass(frozen=True)
class MetricCost:
    """Seconds of a round with a metric and without, medians; `ratio` of the two, each pair measured
    one after the other, its median and range."""

    metric: str
    algorithm: str
    seconds: float
    without: float
    ratio: float
    low: float
    high: float


def known(names: Sequence[str]) -> list[str]:
    """These metrics, by default all and "all" together. Raises ValueError for an unknown name."""
    round_metrics([name for name in names if name != ALL])
    return list(names) or [*ROUND_METRICS, ALL]


def measure(benchmark: CostBenchmark, name: str) -> MetricCost:
    """One metric, or all at once, under FedAvg or the algorithm that has something to measure."""
    algorithm = CARRIERS.get(name, "fedgloss" if name == ALL else "fedavg")
    plain = benchmark.seconds(by_name(algorithm))
    metrics = list(ROUND_METRICS) if name == ALL else [name]
    watched = benchmark.seconds(by_name(algorithm), metrics)
    for rounds in (plain, watched):
        next(rounds)  # the first round allocates
    pairs = [(next(plain), next(watched)) for _ in range(benchmark.rounds)]
    ratios = [b / a for a, b in pairs]
    without, seconds = (median(column) for column in zip(*pairs, strict=True))
    span = min(ratios), max(ratios)
    return MetricCost(name, algorithm, seconds, without, median(ratios), *span)


def table(costs: Sequence[MetricCost]) -> str:
    """Aligned columns, in the order measured."""
    return aligned(HEADS, list(map(_cells, costs)))


def _cells(cost: MetricCost) -> tuple[str, ...]:
    times = (f"{1e3 * value:.2f}" for value in (cost.seconds, cost.without))
    ratios = (f"{value:.3f}" for value in (cost.ratio, cost.low, cost.high))
    return cost.metric, cost.algorithm, *times, *ratios


def csv(costs: Sequence[MetricCost]) -> str:
    """One line per metric."""
    head = ("metric", "algorithm", "seconds", "without_seconds", "ratio", "low", "high")
    rounded = ((c.seconds, c.without, c.ratio, c.low, c.high) for c in costs)
    numbers = ([round(value, 6) for value in row] for row in rounded)
    return lines(
        [head, *((c.metric, c.algorithm, *row) for c, row in zip(costs, numbers, strict=True))]
    )
