"""The tables of who is ahead at equal rounds and at equal bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..report.summaries import PERCENT
from ..report.units import size
from .lines import Block, Line
from .tables import NONE, Table, best_of, signed, spread_text
from .target import sign

EQUAL = """\
{metric} at equal {kind}: mean of the last {last} tested rounds until {until}, ± sample standard \
deviation over seeds{points}. Rounds and bytes: of the last tested round until there, medians \
over seeds."""
UNTIL = {
    "rounds": "the last round that all runs have done",
    "bytes": "all runs have sent as many bytes as the one that sent the fewest",
}


def equal_tables(blocks: Sequence[Block], metric: str, last: int) -> Iterator[tuple[Table, str]]:
    """A table and its caption for each kind that lines have."""
    lines = [line for block in blocks for line in block.lines]
    for kind in dict.fromkeys(kind for line in lines for kind in line.equal):
        yield _table(blocks, kind, metric, last), _caption(kind, metric, last)


def _table(blocks: Sequence[Block], kind: str, metric: str, last: int) -> Table:
    heads = ("group", "seeds", "rounds", "bytes", f"mean of last {last}", "against baseline")
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    starts: list[int] = []
    for block in blocks:
        starts.append(len(rows))
        values = [-sign(metric) * line.equal[kind].late.mean for line in block.lines]
        best |= {(len(rows) + i, 4) for i in best_of(values)}
        rows += [_cells(block, line, kind, metric) for line in block.lines]
    return Table(heads, rows, ("seeds", "bytes", "rounds"), best, set(starts[1:]), kind)


def _cells(block: Block, line: Line, kind: str, metric: str) -> tuple[str, ...]:
    found = line.equal[kind]
    return (
        line.group.name,
        str(len(line.group.histories)),
        f"{found.reached.round:g}" if found.reached else NONE,
        size(found.reached.bytes) if found.reached else NONE,
        spread_text(found.late, metric),
        _ahead(block, line, kind, metric),
    )


def _ahead(block: Block, line: Line, kind: str, metric: str) -> str:
    """The difference to the baseline's mean."""
    base = next((x.equal[kind].late for x in block.lines if x.group.name == block.baseline), None)
    difference = line.equal[kind].late.mean - base.mean if base else math.nan
    if math.isnan(difference) or line.group.name == block.baseline:
        return NONE
    return signed(difference, metric)


def _caption(kind: str, metric: str, last: int) -> str:
    what = metric.replace("_", " ").capitalize() + (" in %" if metric in PERCENT else "")
    points = "; differences in percentage points" if metric in PERCENT else ""
    return EQUAL.format(metric=what, kind=kind, last=last, until=UNTIL[kind], points=points)
