"""What all figures share: colours, and a figure without pyplot, global state or a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: distinguishable with every kind of colour vision; highest contrasts first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TEXT, GRID = "#333333", "#E4E4E4"


def figure_of(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, safe in threads; notebooks show it."""
    from .inline_figure import InlineFigure

    return InlineFigure.of(size)


def plain_axes(ax: Axes) -> None:
    """A grid behind, no ticks, no frame but the lower line."""
    ax.grid(True, color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=TEXT, length=0)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#999999")
