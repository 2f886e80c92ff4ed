"""Bars that a GPU has to reach: each with its figure, which sections have measured, at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpu_sections import long, memory, rounds
from gpu_sections.campaign import Campaign
from gpu_sections.kernels import OPERATIONS, P, operation

Figure = tuple[str, str]  # (subject, measure) of a row


@dataclass(frozen=True)
class Bar:
    """The worst of some figures is between two numbers.

    worst  which of them that is
    """

    name: str
    figures: tuple[Figure, ...]
    unit: str
    least: float = float("-inf")
    most: float = float("inf")
    worst: Callable[[list[float]], float] = min

    @property
    def wanted(self) -> str:
        """As the table spells it."""
        if self.least == float("-inf"):
            return f"at most {self.most:g}"
        return f"at least {self.least:g}" + f", at most {self.most:g}" * (self.most < float("inf"))


def _farthest(found: list[float]) -> float:
    return max(found, key=lambda value: abs(value - 1.0))


def _beside(name: str, algorithm: str, cohort: int, *measures: str) -> tuple[Figure, ...]:
    return tuple((rounds.subject(name, algorithm, cohort), measure) for measure in measures)


MEMORY = tuple((rounds.subject(*case), "peak") for case in memory.CASES)
COPIES = tuple((operation(name, 100), "share") for name in OPERATIONS)
COPIES += ((long.mean_of(1000, 800_000), "share"),)
VMAP = _beside("W1", "fedsam", 100, "beside vmap", "beside vmap tf32")
BARS = (
    Bar("memory plan", MEMORY, "of plan", 0.95, 1.05, _farthest),
    Bar("FedSAM, W1, K = 100, beside vmap", VMAP, "times", 5.0),
    Bar("W1, K = 100", _beside("W1", "fedavg", 100, "share tf32"), "of tf32 product", 0.25),
    Bar(f"operations, K = 100, P = {P:,}", COPIES, "of copy", 0.9),
    Bar("W2 beside a loop", _beside("W2", "fedavg", 10, "default beside loop"), "times", 100.0),
    Bar("W3 beside a loop", _beside("W3", "fedavg", 100, "default beside loop"), "times", 100.0),
    Bar("W5, K = 10, beside a loop", _beside("W5", "fedavg", 10, "beside loop"), "times", 3.0),
    Bar("10,000 rounds of FedGloSS", ((long.FEDGLOSS, "10,000 rounds"),), "min", most=3.0),
)


def judged(campaign: Campaign) -> list[tuple[str, ...]]:
    """A row and a line of the last table for each bar: (name, wanted, figure, unit, whether)."""
    campaign.section, lines = "bars", []
    for bar in BARS:
        found = [campaign.figures[f] for f in bar.figures if f in campaign.figures]
        value = bar.worst(found) if found else None
        whether = _whether(bar, value, len(found))
        campaign.row(bar.name, bar.wanted, value, bar.unit)
        campaign.row(bar.name, "bar", whether)
        text = "" if value is None else f"{value:.4g}"
        lines.append((bar.name, bar.wanted, text, bar.unit, whether))
    return lines


def _whether(bar: Bar, value: float | None, found: int) -> str:
    """A bar is reached if all of its figures are there."""
    if value is None:
        return "not measured"
    if not bar.least <= value <= bar.most:
        return "not reached"
    missing = len(bar.figures) - found
    return "reached" if not missing else f"{missing} of {len(bar.figures)} not measured"
