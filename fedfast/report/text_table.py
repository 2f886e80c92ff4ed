"""Tables and lists as lines of text, for a terminal or a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

WIDTH = 80  # characters of a line, where a label alone does not need more
GAP = "  "


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """Cells in columns: the first to the left, all others to the right.

    Of a table wider than `width` the heads are folded; columns that then have no room are put
    below the others, as a table of their own with the first column again.
    """
    columns = list(zip(heads, *rows, strict=True))
    if _width(columns) > width:
        columns = [(folded(head), *cells) for head, *cells in columns]
    return "\n\n".join("\n".join(_lines(block)) for block in _blocks(columns, width))


def listed(names: Iterable[str], width: int = WIDTH) -> str:
    """Names beside each other in indented lines, none of which is broken within a name."""
    return textwrap.fill(
        GAP.join(names),
        width,
        initial_indent=GAP,
        subsequent_indent=GAP,
        break_long_words=False,
        break_on_hyphens=False,
    )


def folded(head: str) -> str:
    """A head of several words on two lines, as even as they can be."""
    words = head.split(" ")
    ways = [" ".join(words[:i]) + "\n" + " ".join(words[i:]) for i in range(1, len(words))]
    return min(ways, key=lambda way: max(map(len, way.split("\n"))), default=head)


def _blocks(columns: list[tuple[str, ...]], width: int) -> Iterator[list[tuple[str, ...]]]:
    first, rest = columns[0], columns[1:]
    while rest:
        fit = [n for n in range(1, len(rest) + 1) if _width([first, *rest[:n]]) <= width]
        count = max(fit, default=1)
        yield [first, *rest[:count]]
        rest = rest[count:]


def _width(columns: Sequence[tuple[str, ...]]) -> int:
    return sum(map(_widest, columns)) + len(GAP) * (len(columns) - 1)


def _widest(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n"))


def _lines(columns: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The heads' last lines beside each other, then the cells."""
    widths = [_widest(column) for column in columns]
    heads = [head.split("\n") for head, *_ in columns]
    high = max(map(len, heads))
    above = zip(*([""] * (high - len(head)) + head for head in heads), strict=True)
    for line in (*above, *list(zip(*columns, strict=True))[1:]):
        first, *others = zip(line, widths, strict=True)
        yield GAP.join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]).rstrip()
