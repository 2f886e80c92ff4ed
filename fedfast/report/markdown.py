"""Tables in markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def markdown_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)
) -> str:
    """The table without a last line break; columns but those in `left` are aligned right."""
    rule = ["---" if at in left else "---:" for at in range(len(heads))]
    cells = [[_escaped(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *cells))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
