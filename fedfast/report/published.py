"""A paper's tables beside ours: markdown, and one picture of curves per table column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from ..config.paper_values import DIVERGED, NEVER
from ..history import History, Row
from .markdown import markdown_table
from .published_costs import costs_markdown
from .published_eigenvalues import eigenvalues_markdown
from .run_table import duration
from .summaries import number, tested
from .text_table import WIDTH, aligned

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..config.paper import Measure
    from ..reproduction import TableRow as PaperRow

HEADS = ("row", "measure", "published", "ours", "difference", "within ±", "rounds", "time", "on")
NONE = "–"
MARKS = {DIVERGED: "X (did not converge)", NEVER: NEVER}


@dataclass(frozen=True)
class PublishedTable:
    """One config of a paper and its rows, label by label, with what there is of each."""

    config: RunConfig
    rows: Mapping[str, Sequence[PaperRow]]

    def markdown(self, picture: str = "") -> str:
        """Source and note, then a line per label and measure, of those never run too."""
        paper = self.config.paper
        assert paper is not None
        text = markdown_table(HEADS, self._cells(), left=(0, 1, len(HEADS) - 1))
        image = f"\n![Curves of {paper.source}]({picture})\n" if picture else ""
        note = f"\n{paper.note.strip()}\n" if paper.note else ""
        more = f"{self._costs()}{self._eigenvalues()}"
        return f"## {paper.source}\n{note}\n{text}\n{more}{image}"

    def text(self) -> str:
        """Source, and as much of the table as a terminal has room for."""
        assert self.config.paper is not None
        kept = [HEADS.index(head) for head in ("row", "measure", "published", "ours", "rounds")]
        cells = [[line[i] for i in kept] for line in self._cells()]
        table = aligned([HEADS[i] for i in kept], cells)
        return f"{fill(self.config.paper.source, WIDTH)}\n\n{table}\n"

    def _cells(self) -> list[tuple[str, ...]]:
        return [line for label in self.rows for line in self._lines(label)]

    def _costs(self) -> str:
        assert self.config.paper is not None
        if self.config.paper.costs is None:
            return ""
        run = {
            label: [h for r in rows if len(h := r.history())] for label, rows in self.rows.items()
        }
        text = costs_markdown(self.config, self.config.paper.costs, run)
        return f"\n{text}" if text else ""

    def _eigenvalues(self) -> str:
        assert self.config.paper is not None
        run = {
            label: [row.folder for row in rows if len(row.history())]
            for label, rows in self.rows.items()
        }
        text = eigenvalues_markdown(self.config.paper.eigenvalues, run)
        return f"\n{text}" if text else ""

    def curves(self, path: Path) -> bool:
        """Draws the means over seeds; False where nothing was run."""
        from .plots import curves

        histories = {label: _mean([r.history() for r in rows]) for label, rows in self.rows.items()}
        histories = {label: history for label, history in histories.items() if len(history)}
        if histories:
            path.parent.mkdir(parents=True, exist_ok=True)
            curves(histories, path)
        return bool(histories)

    def _lines(self, label: str) -> list[tuple[str, ...]]:
        assert self.config.paper is not None
        run = [row for row in self.rows[label] if len(row.history())]
        seconds = sum(row.about().seconds for row in run)
        rounds = _rounds(run, self.config.rounds)
        tail = (rounds, duration(seconds), _devices(run)) if run else (rounds, NONE, NONE)
        return [
            (label, f"{m.column}, {_summary_text(m, run)}", *_compare(m, label, run), *tail)
            for m in self.config.paper.measures
            if m.of(label) or m.mark(label) or not all(math.isnan(_number(m, row)) for row in run)
        ]


def _number(measure: Measure, row: PaperRow) -> float:
    return number(row.history(), measure.column, measure.summary)


def _summary_text(measure: Measure, run: Sequence[PaperRow]) -> str:
    """`mean of last 100`, `round 3`; a mean over fewer rounds reports how many there were."""
    kind, _, count = measure.summary.partition("-")
    if kind != "mean":
        return f"{kind} {count}".strip()
    there = min((tested(row.history(), measure.column) for row in run), default=int(count))
    return f"mean of last {count}" if there >= int(count) else f"mean of {there}, not {count}"


def _compare(measure: Measure, label: str, run: Sequence[PaperRow]) -> tuple[str, str, str, str]:
    """published, ours, difference, within."""
    found = [_number(measure, row) for row in run]
    ours = float(np.mean(found)) if found else math.nan
    spread = f" ± {np.std(found, ddof=1):.3g}" if len(found) > 1 else ""
    seeds = f" ({len(found)} seed{'s' if len(found) > 1 else ''})"
    shown = NONE if math.isnan(ours) else f"{ours:.5g}{spread}{seeds}"
    there = measure.of(label)
    if there is None:
        return MARKS.get(measure.mark(label), "not at hand"), shown, NONE, NONE
    value, std = there
    published = f"{value:g}" + (f" ± {std:g}" if std else "")
    if math.isnan(ours):
        return published, shown, NONE, NONE
    within = ("yes" if abs(ours - value) <= std else "no") if std else "no ± given"
    return published, shown, f"{ours - value:+.3g}", within


def _rounds(run: Sequence[PaperRow], whole: int) -> str:
    done = [len(row.history()) for row in run] or [0]
    span = f"{min(done)}" if min(done) == max(done) else f"{min(done)}–{max(done)}"
    ended = ", diverged" if any(row.about().stopped for row in run) else ""
    return f"{span} of {whole}{ended}"


def _devices(run: Sequence[PaperRow]) -> str:
    return ", ".join(sorted({row.about().device for row in run}))


def _mean(histories: Sequence[History]) -> History:
    """Means of every number over the seeds, as far as all of them went."""
    numeric = [f.name for f in fields(Row) if f.type == "float"]
    made = History()
    for rows in zip(*histories, strict=False):
        means = {name: float(np.mean([getattr(r, name) for r in rows])) for name in numeric}
        made.append(replace(rows[0], **means))
    return made
