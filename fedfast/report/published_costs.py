"""A paper's table of rounds and bytes to an accuracy beside ours: markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..comparison.target import Reached, entire, medians, reached
from .markdown import markdown_table
from .summaries import number

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..config.paper import Costs
    from ..history import History

HEADS = ("row", "rounds, published", "ours", "bytes / B, published", "ours")
METRIC = "accuracy"
CAPTION = """\
Rounds to {aim}, {origin}, and bytes until then over B, those of {base}'s {rounds} rounds. Ours: \
first tested round as good, medians over seeds; where {base} is done, its own are its whole run."""


def costs_markdown(config: RunConfig, costs: Costs, rows: Mapping[str, Sequence[History]]) -> str:
    """Caption and table of the rows of which something was run; "" while the baseline is missing.

    The target is our baseline's accuracy where all its rounds are done, else the published one.
    """
    base = rows.get(costs.baseline, ())
    if not base:
        return ""
    done = all(len(history) >= config.rounds for history in base)
    target, origin = _ours(costs, base) if done else _published(config, costs)
    whole = _bytes_of_a_round(base) * config.rounds
    cells = []
    for label, histories in rows.items():
        if not histories:
            continue
        own = done and label == costs.baseline
        found = medians(entire(h) if own else reached(h, METRIC, target) for h in histories)
        cells.append((label, *_cells(costs, label, found, histories, whole)))
    aim = "an accuracy that is not at hand" if math.isnan(target) else f"{100 * target:.4g} %"
    caption = CAPTION.format(aim=aim, origin=origin, base=costs.baseline, rounds=config.rounds)
    return f"{caption}\n\n{markdown_table(HEADS, cells)}\n"


def _ours(costs: Costs, base: Sequence[History]) -> tuple[float, str]:
    finals = [number(history, METRIC, costs.summary) for history in base]
    return math.fsum(finals) / len(finals) / 100, f"our {costs.baseline}'s final accuracy"


def _published(config: RunConfig, costs: Costs) -> tuple[float, str]:
    assert config.paper is not None
    same = (m for m in config.paper.measures if (m.column, m.summary) == (METRIC, costs.summary))
    found = next((m.of(costs.baseline) for m in same), None)
    said = f"the published final accuracy of {costs.baseline} (ours is not done)"
    return (found[0] / 100 if found else math.nan), said


def _bytes_of_a_round(histories: Sequence[History]) -> float:
    """Mean over all rounds."""
    return sum(entire(h).bytes for h in histories) / sum(len(h) for h in histories)


def _cells(
    costs: Costs, label: str, found: Reached, histories: Sequence[History], whole: float
) -> tuple[str, str, str, str]:
    there = costs.of(label)
    published = [f"{x:g}" for x in there] if there else [costs.mark(label) or "not at hand"] * 2
    ours = (f"not in {min(map(len, histories))}", "–")
    if found:
        ours = (f"{found.round:g}", f"{found.bytes / whole:.2g}")
    return published[0], ours[0], published[1], ours[1]
