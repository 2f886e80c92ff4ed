"""Tables of text cells in markdown, LaTeX, HTML and on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from ..report.markdown import markdown_table
from ..report.run_table import fitting
from ..report.text_table import folded
from .tables import Table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler
    from rich.table import Table as RichTable

BOLD = "font-weight: bold"
TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"[": "{[}", "]": "{]}", "*": "{*}", "|": r"\textbar{}"}  # [ and * after \\ are its options
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {
        "±": r"$\pm$",
        "−": "$-$",
        "×": r"$\times$",
        "–": "--",
        "…": r"\ldots{}",
        "<": "$<$",
        ">": "$>$",
    }
)


def markdown(table: Table) -> str:
    """The table, its best values bold."""
    rows = [
        [f"**{cell}**" if (i, j) in table.best else cell for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    return markdown_table(table.heads, rows)


def tex(text: str) -> str:
    """The text with what LaTeX would take for commands escaped."""
    return text.translate(TEX)


def latex(table: Table, caption: str, label: str) -> str:
    """A `table` environment with the rules of the package booktabs, its best values bold."""
    stacked = replace(table, heads=tuple(map(_stacked, table.heads)))
    text: str = _styled(stacked, tex).to_latex(
        column_format="l" + "r" * (len(table.heads) - 1),
        hrules=True,
        caption=tex(caption),
        label=label,
        position_float="centering",
        convert_css=True,
    )
    lines = text.split("\n")  # a row of the table is one of them
    first = lines.index(r"\midrule") + 1
    for row in sorted(table.rules, reverse=True):
        lines.insert(first + row, r"\midrule")
    return "\n".join(lines)


def _stacked(head: str) -> str:
    """A head, on two lines where it has several words: tables in papers have little room."""
    one, *two = folded(head).split("\n")
    return rf"\shortstack[r]{{{tex(one)}\\{tex(two[0])}}}" if two else tex(one)


def html(table: Table, caption: str) -> str:
    """The table for a notebook."""
    plain = replace(table, heads=tuple(map(escape, table.heads)))
    text: str = _styled(plain, escape).set_caption(escape(caption)).to_html()
    return text


def _styled(table: Table, escaped: Callable[[str], str]) -> Styler:
    import pandas as pd

    cells = [[escaped(cell) for cell in row] for row in table.rows]
    frame = pd.DataFrame(cells, columns=table.heads)
    bold = [
        [BOLD if (i, j) in table.best else "" for j in range(len(table.heads))]
        for i in range(len(cells))
    ]
    styles = pd.DataFrame(bold, columns=frame.columns)
    return frame.style.hide(axis="index").apply(lambda _: styles, axis=None)


def terminal(table: Table, width: int) -> tuple[RichTable, list[str]]:
    """The table in `width` characters, and the heads of the columns that did not fit."""
    from rich import box
    from rich.markup import escape as literal
    from rich.table import Table as RichTable

    heads = [folded(head) for head in table.heads]
    kept = fitting(heads, table.rows, width, [folded(head) for head in table.optional])
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i in kept:
        # Only names may be folded: a number cut in two is read as another.
        made.add_column(
            literal(heads[i]), justify="right" if i else "left", no_wrap=i > 0, overflow="fold"
        )
    for at, row in enumerate(table.rows):
        cells = [_coloured(literal(row[j]), (at, j) in table.best) for j in kept]
        made.add_row(*cells, end_section=at + 1 in table.rules)
    return made, [head for i, head in enumerate(table.heads) if i not in kept]


def _coloured(cell: str, best: bool) -> str:
    return f"[bold green]{cell}[/]" if best else cell
