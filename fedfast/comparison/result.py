"""`Comparison`: groups of runs beside each other, in every format."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..report.summaries import PERCENT
from . import captions, data, formats, paired_table, tables
from .equal_tables import equal_tables
from .lines import Block

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `fedfast.compare` found; `print` shows what the command line does.

    metric  what is compared
    last    so many of the last tested rounds are averaged
    blocks  the numbers: groups that learn the same from the same data are compared
    given   whether the target was given
    notes   what is to be said beside the numbers
    """

    metric: str
    last: int
    blocks: tuple[Block, ...]
    given: bool
    notes: tuple[str, ...]

    @property
    def _scale(self) -> float:
        return 100.0 if self.metric in PERCENT else 1.0

    def to_pandas(self) -> pd.DataFrame:
        """A line per group with every number; accuracies in percent."""
        return data.frame(self.blocks, self._scale)

    def to_csv(self) -> str:
        """The lines of `to_pandas`."""
        return self.to_pandas().to_csv(lineterminator="\n")

    def to_json(self) -> str:
        """The numbers of `to_pandas` and those of each seed."""
        about = {"metric": self.metric, "last": self.last, "notes": list(self.notes)}
        return data.text(self.blocks, self._scale, **about)

    def to_markdown(self) -> str:
        """The tables, what their columns are, and the notes."""
        made = [f"{formats.markdown(table)}\n\n{text}" for table, text in self.captioned()]
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join([*made, *filter(None, [notes])]) + "\n"

    def to_latex(self, label: str = "tab:comparison") -> str:
        r"""A `table` of each, results first, for a document with `\usepackage{booktabs}`.

        Seeds and rounds are in the caption where they are the same in all groups.
        """
        made = [
            formats.latex(table, caption, f"{label}-{table.name}" if table.name else label)
            for table, caption in self.brief()
        ]
        return "\n".join(made) + "".join(f"% {note}\n" for note in self.notes)

    def print(self, console: Console | None = None) -> None:
        """The tables on a terminal, with as many columns as fit."""
        from rich.console import Console
        from rich.text import Text

        to = console or Console(highlight=False)
        for table, caption in self.captioned():
            shown, left = formats.terminal(table, to.width)
            to.print(shown)
            to.print(Text(caption))
            if left:
                to.print(
                    Text(f"No room for: {', '.join(left)}; --format markdown has all columns.")
                )
        for note in self.notes:
            to.print(Text(note))

    def __str__(self) -> str:
        from rich.console import Console

        file = io.StringIO()
        self.print(Console(file=file, width=120, highlight=False))
        return file.getvalue()

    __repr__ = __str__  # as of a DataFrame

    def _repr_html_(self) -> str:
        made = [formats.html(table, caption) for table, caption in self.captioned()]
        return "".join([*made, *(f"<p>{formats.escape(note)}</p>" for note in self.notes)])

    def captioned(self) -> Iterator[tuple[tables.Table, str]]:
        """Each table with what its columns are."""
        found = tables.results(self.blocks, self.metric, self.last)
        yield found, captions.results(self.blocks, self.metric, self.given)
        yield from equal_tables(self.blocks, self.metric, self.last)
        if tested := paired_table.tests(self.blocks, self.metric):
            yield tested, captions.tests(self.blocks, self.metric, self.last)

    def brief(self) -> Iterator[tuple[tables.Table, str]]:
        """As `captioned`, with seeds and rounds in the caption where they are the same in all."""
        for table, caption in self.captioned():
            kept, alike = table.without_constants(("seeds", "rounds"))
            said = ", ".join(f"{value} {head}" for head, value in alike.items())
            yield kept, f"{caption} {said}." if said else caption
