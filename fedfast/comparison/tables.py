"""The tables of a comparison as text cells, the same for every format."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from ..report.summaries import PERCENT
from ..report.units import size
from .lines import Block, Line, Spread
from .target import sign

NONE = "–"


@dataclass(frozen=True)
class Table:
    """Text cells.

    optional  heads in the order in which columns are left out where there is no room
    best      (row, column) of the best values
    rules     rows above which a new block begins
    name      what tells it from the comparison's other tables; "" of the first
    """

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    optional: tuple[str, ...] = ()
    best: Collection[tuple[int, int]] = ()
    rules: Collection[int] = ()
    name: str = ""

    def without_constants(self, heads: Collection[str]) -> tuple[Table, dict[str, str]]:
        """The table without those of `heads` whose column has one value, and these values."""
        columns = dict(zip(self.heads, zip(*self.rows, strict=True), strict=True))
        alike = {h: columns[h][0] for h in self.heads if h in heads and len(set(columns[h])) == 1}
        kept = [i for i, head in enumerate(self.heads) if head not in alike]
        cut = replace(
            self,
            heads=tuple(self.heads[i] for i in kept),
            rows=[tuple(row[i] for i in kept) for row in self.rows],
            best={(row, kept.index(column)) for row, column in self.best if column in kept},
        )
        return cut, alike


def results(blocks: Sequence[Block], metric: str, last: int) -> Table:
    """Accuracies, and what FedGloSS's Table 6 has: rounds and bytes to the target."""
    late = f"mean of last {last}"
    aim = percent(blocks[0].target, metric) if len(blocks) == 1 else "target"
    heads = (
        *("group", "seeds", "rounds", "final", "best", late),
        *(f"rounds to {aim}", "relative rounds", f"bytes to {aim}", "relative bytes"),
    )
    lines = [line for block in blocks for line in block.lines]
    starts = [sum(len(block.lines) for block in blocks[:i]) for i in range(len(blocks))]
    best = {
        (start + row, column)
        for start, block in zip(starts, blocks, strict=True)
        for row, column in _best(block.lines, metric)
    }
    rows = [_cells(line, metric) for line in lines]
    optional = ("rounds", "best", "final", "seeds", "relative rounds", "relative bytes")
    return Table(heads, rows, optional, best, set(starts[1:]))


def percent(value: float, metric: str) -> str:
    """A target as it is printed: `76.38%`, or a loss."""
    if math.isnan(value):
        return "target"
    return f"{100 * value:.4g}%" if metric in PERCENT else f"{value:.4g}"


def _cells(line: Line, metric: str) -> tuple[str, ...]:
    whole = len(line.group.histories)
    return (
        line.group.name,
        str(whole),
        _rounds(line),
        *(spread_text(part, metric) for part in (line.final, line.best, line.late)),
        _to_target(line),
        _ratio(line.relative.round),
        size(line.middle.bytes) if line.middle else NONE,
        _ratio(line.relative.bytes),
    )


def _rounds(line: Line) -> str:
    done = sorted({history.last().round for history in line.group.histories.values()})
    span = f"{done[0]}" if len(done) == 1 else f"{done[0]}–{done[-1]}"
    whole = line.group.rounds
    return span if whole is None or done == [whole] else f"{span} of {whole}"


def spread_text(found: Spread, metric: str) -> str:
    """Mean ± standard deviation over seeds."""
    if math.isnan(found.mean):
        return NONE
    digits = _digits(metric)
    std = "" if math.isnan(found.std) else f" ± {found.std:.{digits}f}"
    return f"{found.mean:.{digits}f}{std}"


def partly_reached(line: Line) -> bool:
    """Whether some seeds reached the target and others did not."""
    return 0 < sum(map(bool, line.reached.values())) < len(line.reached)


def _to_target(line: Line) -> str:
    """The median, and how many seeds reached the target where some did not."""
    text = f"{line.middle.round:g}" if line.middle else NONE
    some = f" ({sum(map(bool, line.reached.values()))} of {len(line.reached)})"
    return text + some * partly_reached(line)


def _ratio(value: float) -> str:
    if math.isnan(value):
        return NONE
    return f"{value:.2f}×" if value >= 0.1 else f"{value:.2g}×"


def signed(value: float, metric: str) -> str:
    """A difference with its sign: `+0.95`."""
    return f"{value:+.{_digits(metric)}f}".replace("-", "−")


def _digits(metric: str) -> int:
    return 2 if metric in PERCENT else 4


def _best(lines: Sequence[Line], metric: str) -> Iterator[tuple[int, int]]:
    """(row, column) of the best means and of the fewest rounds and bytes; none of a single line."""
    columns: dict[int, list[float]] = {
        3: [-sign(metric) * line.final.mean for line in lines],
        4: [-sign(metric) * line.best.mean for line in lines],
        5: [-sign(metric) * line.late.mean for line in lines],
        6: [line.middle.round for line in lines],
        8: [line.middle.bytes for line in lines],
    }
    for column, values in columns.items():
        yield from ((row, column) for row in best_of(values))


def best_of(values: Sequence[float]) -> list[int]:
    """Where the least of several values is; none of a single one."""
    least = min((v for v in values if math.isfinite(v)), default=math.nan)
    return [i for i, value in enumerate(values) if value == least and len(values) > 1]
