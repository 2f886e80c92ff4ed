"""One table of a run's algorithms: on the terminal, and as markdown in the run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..history import History
from .markdown import markdown_table
from .summaries import number
from .summaries import tested as times

if TYPE_CHECKING:
    from rich.table import Table

HEADS = ("algorithm", "rounds", "accuracy", "best (round)", "loss", "time", "clients/s")
# Of runs long enough; what many papers report instead of the last accuracy or the best.
LATE, LONG = 100, "mean of last 100"
# Left out in this order where a terminal is too narrow, those without any value first.
OPTIONAL = ("clients/s", "time", "rounds", "loss", LONG, "best (round)")
LABEL = 24  # characters of a label that are not folded
# Columns of runs whose clients have test parts of their own: the last means over clients.
OWN = {"local": "local_accuracy", "personal": "personal_accuracy"}


def heads(histories: Mapping[str, History]) -> tuple[str, ...]:
    """The table's columns: `HEADS`, `LONG` of long runs, and those of `OWN` that some label has."""
    late = [LONG] if any(times(h, "accuracy") >= LATE for h in histories.values()) else []
    has = [h for h, field in OWN.items() if any(_own(x, field) for x in histories.values())]
    return (*HEADS, *late, *has)


def rows(histories: Mapping[str, History]) -> list[tuple[str, ...]]:
    """The table's cells, one row per label, in the order of `heads`."""
    extra = heads(histories)[len(HEADS) :]
    return [
        (*_cells(label, history), *(_extra(history, head) or "–" for head in extra))
        for label, history in histories.items()
    ]


def _extra(history: History, head: str) -> str:
    """A cell of a column that not all tables have."""
    if head != LONG:
        return _own(history, OWN[head])
    mean = number(history, "accuracy", f"mean-{LATE}")
    return "" if math.isnan(mean) else f"{mean:.2f}%"


def _own(history: History, field: str) -> str:
    """The last value of a column that few rows have, "" without any."""
    known = [value for value in history.column(field) if not math.isnan(value)]
    return f"{known[-1]:.2%}" if known else ""


def markdown(histories: Mapping[str, History]) -> str:
    """The table in markdown, and a line for each label that did not end well."""
    lines = markdown_table(heads(histories), rows(histories))
    troubles = [f"- **{label}**: {text}" for label, text in notes(histories)]
    return "\n".join([lines, "", *troubles]).rstrip() + "\n"


def table(histories: Mapping[str, History], width: int = 80) -> Table:
    """The same table for `rich`, the best of each accuracy column highlighted.

    Columns that do not fit into `width` characters are left out, see `OPTIONAL`.
    """
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns, cells = heads(histories), rows(histories)
    kept = fitting(columns, cells, width, OPTIONAL)
    for i in kept:
        # Only labels may be folded: a number cut in two is read as another.
        made.add_column(
            columns[i], justify="right" if i else "left", no_wrap=i > 0, overflow="fold"
        )
    for row in _highlight(cells, histories):
        made.add_row(*(row[i] for i in kept))
    return made


def fitting(
    columns: Sequence[str], cells: Sequence[tuple[str, ...]], width: int, optional: Sequence[str]
) -> list[int]:
    """Which columns are shown in `width` characters: three between neighbours, one at each edge.

    Left out where there is no room: `optional` columns without any value, the other `optional`
    ones in this order, then what else has no value.
    """
    filled = list(zip(columns, *cells, strict=True))
    widths = [
        max(len(part) for cell in column for part in cell.split("\n")) + 3 for column in filled
    ]
    widths[0] = min(widths[0], LABEL + 3)
    kept = list(range(len(columns)))
    empty = [column[0] for column in filled if set(column[1:]) <= {"–"}]
    for head in (*(head for head in optional if head in empty), *optional, *empty):
        if sum(widths[i] for i in kept) - 1 > width and head in columns:
            kept = [i for i in kept if columns[i] != head]
    return kept


def notes(histories: Mapping[str, History]) -> list[tuple[str, str]]:
    """(label, what happened) for every label whose rounds were not all ok."""
    found = []
    for label, history in histories.items():
        bad = [row for row in history if row.status != "ok"]
        if bad:
            more = f" (and {len(bad) - 1} later rounds)" if len(bad) > 1 else ""
            found.append((label, f"round {bad[0].round}: {bad[0].status}{more}"))
    return found


def _cells(label: str, history: History) -> tuple[str, ...]:
    seconds = sum(row.seconds for row in history if math.isfinite(row.seconds))
    clients = sum(row.clients for row in history)
    final, tested = (history.last() if len(history) else None), history.tested()
    last = tested.last() if len(tested) else None
    best = history.best() if times(history, "accuracy") else None
    return (
        label,
        str(final.round if final else 0),
        f"{last.accuracy:.2%}" if best and last else "–",
        f"{best.accuracy:.2%} ({best.round})" if best else "–",
        f"{last.loss:.4g}" if last else "–",
        duration(seconds),
        f"{clients / seconds:,.0f}" if seconds > 0 else "–",
    )


def _highlight(
    cells: Sequence[tuple[str, ...]], histories: Mapping[str, History]
) -> list[list[str]]:
    from rich.markup import escape

    shown = [[escape(cell) for cell in row] for row in cells]
    tested = {at: h.tested() for at, h in enumerate(histories.values()) if times(h, "accuracy")}
    if len(tested) > 1:  # nothing to compare otherwise
        for column, of in ((2, lambda h: h.last().accuracy), (3, lambda h: h.best().accuracy)):
            top = max(of(h) for h in tested.values())
            for at in (at for at, h in tested.items() if of(h) == top):
                shown[at][column] = f"[bold green]{shown[at][column]}[/]"
    return shown


def duration(seconds: float) -> str:
    """`0.52 s`, `41.3 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02} min" if hours else f"{minutes} min {rest:02} s"
