"""The rows of a study: one algorithm, population, cohort and number of ranks each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScaleRow:
    """One measurement: what it is of, and the study's folder.

    held_out  whether the cost model is checked against it instead of being fitted to it
    """

    study: Path
    algorithm: str
    clients: int
    cohort: int
    ranks: int
    held_out: bool = False

    @property
    def name(self) -> str:
        """`fedavg/clients-1000-cohort-10-ranks-1`, the path below rows/ without its ending."""
        return f"{self.algorithm}/clients-{self.clients}-cohort-{self.cohort}-ranks-{self.ranks}"

    @property
    def order(self) -> tuple[bool, str, int, int, int]:
        """How rows are listed: held-out ones last, then by algorithm and size."""
        return self.held_out, self.algorithm, self.ranks, self.clients, self.cohort

    @property
    def folder(self) -> Path:
        """Where the row's files are."""
        return self.study / "rows" / self.algorithm

    @property
    def result(self) -> Path:
        """What it came to."""
        return self.study / "rows" / f"{self.name}.json"

    @property
    def counted(self) -> Path:
        """FLOPs of a sample, counted once for all rows of the algorithm."""
        return self.folder / "flops.json"

    @property
    def output(self) -> Path:
        """What its process printed."""
        return self.study / "rows" / f"{self.name}.txt"

    def __str__(self) -> str:
        ranks = f" on {self.ranks} ranks" if self.ranks > 1 else ""
        return f"{self.algorithm}, {self.cohort:,} of {self.clients:,} clients{ranks}"


def grid(
    study: Path,
    algorithms: Sequence[str],
    clients: Sequence[int],
    cohorts: Sequence[int],
    ranks: Sequence[int],
) -> list[ScaleRow]:
    """Every combination in which the cohort is no larger than the population."""
    return [
        ScaleRow(study, algorithm, n, c, g)
        for algorithm in algorithms
        for n in sorted(clients)
        for c in sorted(cohorts)
        for g in sorted(ranks)
        if g <= c <= n
    ]


def held_out(rows: Sequence[ScaleRow], count: int, seed: int) -> list[ScaleRow]:
    """Up to `count` rows of other sizes, drawn log-uniformly between the smallest and largest.

    Algorithms take turns. Where neither population nor cohort varies there are none.
    """
    if not rows:
        return []
    draw = random.Random(seed)
    taken = {row.name for row in rows}
    algorithms = list(dict.fromkeys(row.algorithm for row in rows))
    ranks = sorted({row.ranks for row in rows})
    made: list[ScaleRow] = []
    for i in range(20 * count):
        n = _between(draw, (row.clients for row in rows))
        c = _between(draw, (row.cohort for row in rows))
        which = algorithms[len(made) % len(algorithms)]
        row = ScaleRow(rows[0].study, which, max(n, c), c, ranks[i % len(ranks)], held_out=True)
        if len(made) < count and row.name not in taken and row.ranks <= c:
            taken.add(row.name)
            made.append(row)
    return made


def _between(draw: random.Random, sizes: Iterable[int]) -> int:
    each = sorted(set(sizes))
    low, high = math.log(each[0]), math.log(each[-1])
    return round(math.exp(draw.uniform(low, high)))
