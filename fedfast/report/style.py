"""What all figures share: colours, line styles, sizes, and a figure without pyplot or a window.

Sizes are those of one column of a paper of two: 3.5 inches (89 mm), text of 7 to 8 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from threading import Lock
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Okabe and Ito: distinguishable with every kind of colour vision; highest contrasts first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Dashes and markers tell curves apart in print without colours. Their numbers have no common
# divisor with that of the colours: the same pair comes back after 35 curves only.
Dash = Literal["-"] | tuple[float, Sequence[float]]
DASHES: tuple[Dash, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (7, 2)))
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "<", ">", "p", "*", "h")
HATCHES = ("", "////", "....", "\\\\\\\\")
TEXT, GRID, FAINT = "#333333", "#E4E4E4", "#9A9A9A"
COLUMN = 3.5  # inches
SMALL, MEDIUM = 7.0, 8.0  # points of numbers and legends, and of labels of axes
DPI = 300
LINES = 3  # of a label
WIDEST = 10.0  # ratio of values from which an axis of points is logarithmic
# Columns and characters of a legend, the first that fits: few characters are for wide letters.
LEGENDS = ((4, 48), (3, 48), (2, 48), (1, 48), (1, 38), (1, 30), (1, 24))
_SAVING = Lock()  # matplotlib keeps the kind of fonts in a global


@dataclass(frozen=True)
class LineStyle:
    """How one of several curves is drawn."""

    colour: str
    dash: Dash
    marker: str


def line_style(i: int) -> LineStyle:
    """Curve `i`'s own: no two of 12 share a marker, no two of 35 colour and dash."""
    return LineStyle(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])


def figure_of(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, safe in threads; notebooks show it."""
    from .inline_figure import InlineFigure

    return InlineFigure.of(size)


def plain_axes(ax: Axes, small: float = SMALL, medium: float = MEDIUM) -> None:
    """A grid behind, no ticks, no frame but the lower line; numbers and labels of these sizes."""
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=TEXT, length=0, labelsize=small)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(color=TEXT, fontsize=medium)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#999999")


def logarithmic(ax: Axes, values: Sequence[float]) -> bool:
    """A logarithmic x-axis where positive values span more than `WIDEST`; whether there is one."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = min(values), max(values)
    if not low > 0 or not high > WIDEST * low:
        return False
    ax.set_xscale("log")
    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    return True


def nothing_finite(ax: Axes, text: str = "not finite") -> None:
    """Says in the middle of axes why nothing is drawn."""
    shown = ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center")
    shown.set(fontsize=SMALL, color=TEXT)


def label_text(label: str, width: int = LEGENDS[0][1]) -> str:
    """`label` in at most three lines of `width` characters, whatever it contains."""
    lines = wrap(label, width) or [""]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], lines[LINES - 1][: width - 1] + "…"]
    return "\n".join(lines).replace("$", r"\$")  # a pair of $ would set mathematics


def legend_below(figure: Figure, handles: list[Artist], labels: list[str]) -> Legend | None:
    """The legend in the room below the axes, which grows the figure by its height."""
    if not labels:
        return None
    room = figure.get_figwidth() * figure.dpi - 2 * SMALL
    for columns, width in LEGENDS:
        legend = figure.legend(
            handles,
            [label_text(label, width) for label in labels],
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            labelcolor=TEXT,
            fontsize=SMALL,
            handlelength=3.2,
            columnspacing=1.2,
            borderpad=0.1,
            labelspacing=0.35,
        )
        size = legend.get_window_extent()
        if width == LEGENDS[-1][1] or size.width < room:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi + 0.05)
    return legend


def save(figure: Figure, to: str | Path | IO[bytes], kind: str = "") -> None:
    """Writes .png of 300 dots per inch, or .pdf (fonts embedded), .svg and what else there is.

    kind  png, pdf, ...; by default what the name ends in, or png
    Raises ValueError for an ending that cannot be written.
    """
    import matplotlib

    kind = kind or (Path(to).suffix[1:] if isinstance(to, str | Path) else "") or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"path: expected a name that ends in .png, .pdf or .svg; got {str(to)!r}")
    # Type 42, TrueType: journals refuse the Type 3 fonts that are matplotlib's default.
    with _SAVING, matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):
        figure.savefig(to, dpi=DPI, format=kind)
