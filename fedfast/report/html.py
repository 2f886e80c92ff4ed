"""Small pieces of HTML for notebooks: a panel of facts, a curve, a grid of counts.

Everything is inline and escaped, nothing is fetched; colours are those of the page, or show on
light and dark alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

BLUE = "#3b8fd1"
BOX = (
    "display:inline-block;max-width:100%;overflow-x:auto;padding:.5em .9em;border-radius:6px;"
    "border:1px solid rgba(128,128,128,.45);font-size:90%"
)
CELL = "text-align:left;padding:1px 1em 1px 0;background:none;border:none;vertical-align:top"
TABLE = "margin:.3em 0;border:none;font-size:100%;color:inherit"  # pages in quirks mode too
WIDTH, HEIGHT = 320, 56  # of a curve, pixels
POINTS = 400  # of a curve at most
SHADES = 5  # of a grid's cells


def panel(title: str, about: str, facts: Mapping[str, object], *pictures: str) -> str:
    """A title, one line about it, a row per fact, and pictures (HTML already) below."""
    rows = "".join(
        f'<tr style="background:none"><td style="{CELL};opacity:.7">{escape(name)}</td>'
        f'<td style="{CELL}">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    head = f'<b>{escape(title)}</b> <span style="opacity:.7">{escape(about)}</span>'
    table = f'<table style="{TABLE}">{rows}</table>'
    return f'<div style="{BOX}">{head}{table}{"".join(pictures)}</div>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of numbers, the first of words."""
    cell = CELL.replace("left", "right")
    lines = [("th", heads), *(("td", row) for row in rows)]
    body = "".join(
        f'<tr style="background:none">{_cells(kind, values, cell)}</tr>' for kind, values in lines
    )
    return f'<table style="{TABLE}">{body}</table>'


def curve(name: str, values: Sequence[float]) -> str:
    """A line through the finite values over their positions, with the range at its left."""
    known = [(i, float(v)) for i, v in enumerate(values) if math.isfinite(v)]
    if not known:
        return ""
    known = known[:: -(-len(known) // POINTS)] + known[-1:]
    low, high = min(v for _, v in known), max(v for _, v in known)
    across, up = max(1, len(values) - 1), (high - low) or 1.0
    points = " ".join(f"{WIDTH * i / across:.1f},{HEIGHT * (high - v) / up:.1f}" for i, v in known)
    line = f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="1.6"/>'
    dot = points.rpartition(" ")[2].split(",")
    end = f'<circle cx="{dot[0]}" cy="{dot[1]}" r="2.5" fill="{BLUE}"/>'
    label = f"{name}, {low:.4g} to {high:.4g}"
    return _svg(label, WIDTH, HEIGHT, line + end)


def grid(label: str, counts: np.ndarray) -> str:
    """A column per row of `counts` `[n, m]`: the darker a cell, the larger its share of its column.

    One path per shade: a page with many grids stays small.
    """
    n, m = counts.shape
    wide, high = max(6, min(14, WIDTH // n)), max(2, min(12, 160 // m))
    share = counts / np.maximum(1, counts.max(axis=1, keepdims=True))
    shade = np.ceil(share * SHADES).astype(int)
    paths = ""
    for level in range(1, SHADES + 1):
        at = np.argwhere(shade == level)
        d = "".join(f"M{i * wide} {j * high}h{wide - 1}v{high - 1}h{1 - wide}z" for i, j in at)
        paths += f'<path d="{d}" fill="{BLUE}" fill-opacity="{level / SHADES:g}"/>' if d else ""
    return _svg(label, n * wide, m * high, paths)


def _cells(kind: str, values: Sequence[str], cell: str) -> str:
    return "".join(
        f'<{kind} style="{cell if i else CELL}">{escape(value)}</{kind}>'
        for i, value in enumerate(values)
    )


def _svg(label: str, width: int, height: int, body: str) -> str:
    """A picture under a line of text that says what it shows."""
    text = escape(label, quote=True)
    return (
        f'<div style="opacity:.7;font-size:85%">{text}</div>'
        f'<svg role="img" aria-label="{text}" width="{width + 8}" height="{height + 8}" '
        f'viewBox="-4 -4 {width + 8} {height + 8}">{body}</svg>'
    )
