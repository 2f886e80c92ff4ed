"""What algorithms cost: rounds of each, alternating with FedAvg, as a table and a bar chart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ..algorithms import Algorithm, by_name
from ..data import FederatedData, Samples
from ..models import build
from ..simulation import Simulation
from .text_table import aligned

CLIENTS, SAMPLES, COHORT, BATCH = 100, 500, 10, 50
SHAPE, CLASSES, LR = (1, 28, 28), 10, 0.01


@dataclass(frozen=True)
class Cost:
    """Seconds of a round, medians; `ratio` to FedAvg's, each pair measured one after the other."""

    name: str
    gradients: int
    seconds: float
    fedavg: float
    ratio: float
    low: float
    high: float


class CostBenchmark:
    """One federation for all algorithms; FedAvg runs a round before each of theirs."""

    def __init__(self, model: str, rounds: int, threads: int | None) -> None:
        generator = torch.Generator().manual_seed(0)
        total = CLIENTS * SAMPLES
        x = torch.randn(total, *SHAPE, generator=generator)
        y = torch.randint(CLASSES, (total,), generator=generator)
        rows = np.arange(total).reshape(CLIENTS, -1)
        self.data = FederatedData.from_index(Samples(x, y), list(rows))
        self.module = build(model, input_shape=SHAPE, classes=CLASSES)
        self.rounds, self.threads = rounds, threads or torch.get_num_threads()
        self.base = self.seconds(by_name("fedavg"))
        next(self.base)  # the first round allocates
        self.about = (
            f"{model}, {CLIENTS} clients x {SAMPLES}, {COHORT} per round, B = {BATCH}, "
            f"{self.threads} threads, medians of {rounds} rounds"
        )

    def seconds(self, algorithm: Algorithm, metrics: Sequence[str] = ()) -> Iterator[float]:
        """Seconds of one round after another, evaluation left out."""
        sim = Simulation(
            self.module,
            self.data,
            algorithm,
            rounds=10**6,
            participation=COHORT / CLIENTS,
            batch_size=None if algorithm.name == "fedsgd" else BATCH,
            lr=LR,
            threads=self.threads,
            eval_every=10**6,
            metrics=metrics,
        )
        begin = time.perf_counter()
        for row in sim:
            if row.status != "ok":
                raise ValueError(f"a round ended as {row.status}")
            yield time.perf_counter() - begin
            begin = time.perf_counter()

    def measure(self, name: str) -> Cost:
        """One algorithm against FedAvg."""
        algorithm = by_name(name)
        other = self.seconds(algorithm)
        next(other)
        pairs = [(next(self.base), next(other)) for _ in range(self.rounds)]
        ratios = [theirs / ours for ours, theirs in pairs]
        ours, theirs = (median(column) for column in zip(*pairs, strict=True))
        span = min(ratios), max(ratios)
        return Cost(name, algorithm.gradients, theirs, ours, median(ratios), *span)


HEADS = ("algorithm", "gradients", "ms per round", "times FedAvg", "low", "high")


def _cells(cost: Cost) -> tuple[str, ...]:
    ratios = (f"{value:.2f}" for value in (cost.ratio, cost.low, cost.high))
    return cost.name, str(cost.gradients), f"{1e3 * cost.seconds:.0f}", *ratios


def table(costs: list[Cost]) -> str:
    """Aligned columns, the cheapest first."""
    return aligned(HEADS, [_cells(cost) for cost in sorted(costs, key=lambda c: c.ratio)])


def csv(costs: list[Cost]) -> str:
    """One line per algorithm, in the order measured."""
    head = "algorithm,gradients,seconds,fedavg_seconds,ratio,low,high\n"
    return head + "".join(
        f"{c.name},{c.gradients},{c.seconds:.4f},{c.fedavg:.4f},{c.ratio:.3f},{c.low:.3f},"
        f"{c.high:.3f}\n"
        for c in costs
    )


def chart(costs: list[Cost], path: Path) -> None:
    """Bars of the ratios, coloured by gradients per step, with the range of the rounds."""
    from .style import COLOURS, GRID, TEXT, figure_of

    ordered = sorted(costs, key=lambda c: -c.ratio)
    figure = figure_of((7.2, 1.2 + 0.26 * len(ordered)))
    ax = figure.subplots()
    for i, cost in enumerate(ordered):
        spread = [[cost.ratio - cost.low], [cost.high - cost.ratio]]
        colour = COLOURS[0] if cost.gradients == 1 else COLOURS[1]
        label = f"{cost.gradients} gradient{'s' if cost.gradients > 1 else ''} per step"
        ax.barh(i, cost.ratio, color=colour, xerr=spread, ecolor=TEXT, capsize=2, label=label)
    ax.set_yticks(range(len(ordered)), [cost.name for cost in ordered])
    ax.axvline(1.0, color=TEXT, linewidth=0.8)
    ax.set_xlabel("time of a round, FedAvg's = 1", color=TEXT)
    ax.grid(axis="x", color=GRID)
    ax.set_axisbelow(True)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ax.legend(handles.values(), handles.keys(), frameon=False, loc="upper right")
    figure.savefig(path, dpi=160)
