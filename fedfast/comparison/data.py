"""The numbers of a comparison for other programs: a DataFrame, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from .lines import Block, Line

if TYPE_CHECKING:
    import pandas as pd


def frame(blocks: Sequence[Block], scale: float) -> pd.DataFrame:
    """A line per group, indexed by its name; accuracies and targets times `scale`."""
    import pandas as pd

    rows = [_row(block, line, scale) for block in blocks for line in block.lines]
    counts = dict.fromkeys(("rounds_configured", "pairs"), "Int64")  # of which some are missing
    return pd.DataFrame(rows).set_index("group").astype(counts)


def text(blocks: Sequence[Block], scale: float, **about: object) -> str:
    """JSON: the same numbers, those of each seed, and `about`; null where there is none."""
    groups = [
        {**_row(block, line, scale), "values": _values(line)}
        for block in blocks
        for line in block.lines
    ]
    found = _plain({**about, "groups": groups})
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _row(block: Block, line: Line, scale: float) -> dict[str, object]:
    done = [history.last().round for history in line.group.histories.values()]
    spreads = {"final": line.final, "best": line.best, "mean_of_last": line.late}
    return {
        "group": line.group.name,
        "setting": block.name,
        "seeds": len(done),
        "rounds": min(done),
        "rounds_configured": line.group.rounds,
        **{name: spread.mean for name, spread in spreads.items()},
        **{f"{name}_std": spread.std for name, spread in spreads.items()},
        "target": block.target * scale,
        "seeds_that_reached": sum(map(bool, line.reached.values())),
        "rounds_to_target": line.middle.round,
        "bytes_to_target": line.middle.bytes,
        "baseline": block.baseline,
        "relative_rounds": line.relative.round,
        "relative_bytes": line.relative.bytes,
        **_test(line),
        **_equal(line),
    }


def _equal(line: Line) -> dict[str, object]:
    return {
        f"{name}_at_equal_{kind}": value
        for kind, found in line.equal.items()
        for name, value in {
            "mean": found.late.mean,
            "std": found.late.std,
            "rounds": found.reached.round,
            "bytes": found.reached.bytes,
        }.items()
    }


def _test(line: Line) -> dict[str, object]:
    if line.test is None:
        return dict.fromkeys(TEST.values())
    found = asdict(line.test) | {"seeds": len(line.test.seeds)}
    return {name: found[key] for key, name in TEST.items()}


TEST = {
    "seeds": "pairs",
    "difference": "difference",
    "low": "difference_low",
    "high": "difference_high",
    "t": "p_t",
    "t_holm": "p_t_holm",
    "wilcoxon": "p_wilcoxon",
    "wilcoxon_holm": "p_wilcoxon_holm",
}


def _values(line: Line) -> list[dict[str, object]]:
    return [
        {
            "seed": seed,
            "final": line.final.values[seed],
            "best": line.best.values[seed],
            "mean_of_last": line.late.values[seed],
            "rounds_to_target": line.reached[seed].round,
            "bytes_to_target": line.reached[seed].bytes,
        }
        for seed in line.group.histories
    ]


def _plain(value: object) -> object:
    """JSON has neither nan nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
