"""Landscapes as figures of one column's width: contours on shared levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..landscape.panels import Panel
from .style import (
    COLUMN,
    MEDIUM,
    SMALL,
    TEXT,
    figure_of,
    label_text,
    nothing_finite,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

LEVELS, MORE, MOST = 12, 8, 32  # contours; more for each order of magnitude above the first
COLOURS = "cividis"  # the same order of lightness with every kind of colour vision
TITLE = 27  # characters of a line above one of two panels
WIDE = 44  # above a panel that is alone
SIDE = 0.25  # of the width: nearer to an edge, names are set inwards
FLAT = 0.4  # heights of panels by their widths are between this and its inverse
TOP = 0.75  # of the height: above it names are set below their models
OUTLINE = 1.6  # points of white around text on colours


def contours(panels: Sequence[Panel]) -> Figure:
    """The loss of planes side by side, two in a row, on the same levels.

    Levels are spaced by factors where losses span more than one order of magnitude. Points where
    the loss is not finite stay white.
    """
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    tall = [max(map(_height, panels[i : i + 2])) for i in range(0, len(panels), 2)]
    tall = [2.4 * high + 0.6 if columns == 1 else 1.1 * high + 0.78 for high in tall]
    figure = figure_of((COLUMN, sum(tall) + 0.45))
    drawn = figure.subplots(lines, columns, squeeze=False, height_ratios=tall)
    levels, norm = _levels([panel.loss for panel in panels])
    for ax, panel in zip(drawn.flat, panels, strict=False):
        shown = np.where(np.isfinite(panel.loss), panel.loss, np.nan)
        if np.isnan(shown).all():
            nothing_finite(ax)
        filled = ax.contourf(*panel.axes, shown.T, cmap=COLOURS, levels=levels, norm=norm)
        ax.contour(*panel.axes, shown.T, levels=levels, colors="white", linewidths=0.3, alpha=0.6)
        _finish(ax, panel, WIDE if columns == 1 else TITLE)
    for ax in drawn.flat[len(panels) :]:
        ax.remove()
    kept = list(drawn.flat[: len(panels)])
    bar = figure.colorbar(filled, ax=kept, location="bottom", aspect=40, pad=0.02)
    bar.set_ticks(levels[:: max(1, len(levels) // 5)].tolist())
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL, colors=TEXT, length=2)
    bar.set_label("mean loss (of cross-entropy: nats)", fontsize=MEDIUM, color=TEXT)
    return figure


def _height(panel: Panel) -> float:
    """Of a panel, as a part of its width: that of its coordinates, where this can be drawn."""
    wide, tall = (float(axis[-1] - axis[0]) for axis in panel.axes)
    return tall / wide if FLAT < tall / wide < 1 / FLAT else 1.0


def _levels(losses: Sequence[np.ndarray]) -> tuple[np.ndarray, Normalize]:
    """Values of contours, and how they become colours."""
    from matplotlib import colors

    known = np.concatenate([loss[np.isfinite(loss)] for loss in losses])
    if not len(known):
        raise ValueError("losses: expected a finite one; got none")
    low, high = float(known.min()), float(known.max())
    high = high if high > low else low + 1.0
    norm: type[colors.Normalize]
    if low > 0 and high > 10 * low:
        count = min(MOST, LEVELS + int(MORE * np.log10(high / low / 10)))
        levels, norm = np.geomspace(low, high, count + 1), colors.LogNorm
    else:
        levels, norm = np.linspace(low, high, LEVELS + 1), colors.Normalize
    levels[[0, -1]] = np.nextafter([low, high], [-np.inf, np.inf])  # not a point falls off the ends
    return levels, norm(low, high)


def _finish(ax: Axes, panel: Panel, width: int) -> None:
    """Title, positions of models, axes of equal scale."""
    from matplotlib.patheffects import withStroke

    lines = (panel.label, f"{panel.model}, {panel.data}")
    ax.set_title(
        "\n".join(label_text(line, width) for line in lines), fontsize=SMALL, color=TEXT, pad=3
    )
    for i, (name, (a, b)) in enumerate(panel.marks.items()):
        if not all(x[0] <= at <= x[-1] for at, x in zip((a, b), panel.axes, strict=True)):
            continue
        ax.plot([a], [b], "o", color="white", markeredgecolor="black", markersize=4)
        if len(panel.marks) == 1:  # the title names it
            continue
        # The second model lies beside the first: one name below, one above, where there is room.
        above = i > 0 and b < panel.axes[1][0] + TOP * (panel.axes[1][-1] - panel.axes[1][0])
        ax.annotate(
            label_text(name, 12),
            (a, b),
            (0, 4 if above else -4),
            textcoords="offset points",
            ha=side_of(a, panel.axes[0]),
            va="bottom" if above else "top",
            fontsize=SMALL,
            color="black",
            path_effects=[withStroke(linewidth=OUTLINE, foreground="white")],
        )
    wide, tall = (float(axis[-1] - axis[0]) for axis in panel.axes)
    if FLAT < tall / wide < 1 / FLAT:
        ax.set_aspect("equal")
    ax.tick_params(labelsize=SMALL, colors=TEXT, length=2)
    ax.locator_params(axis="x", nbins=4 if width == WIDE else 3)
    ax.locator_params(axis="y", nbins=4)
    unit = panel.unit if width == WIDE else short(panel.unit)
    ax.set_xlabel(f"first direction ({unit})", fontsize=SMALL, color=TEXT)
    ax.set_ylabel(f"second ({unit})", fontsize=SMALL, color=TEXT)


def side_of(a: float, axis: np.ndarray) -> str:
    """Which way a name goes, so that it stays inside."""
    at = (a - axis[0]) / (axis[-1] - axis[0])
    return "left" if at < SIDE else "right" if at > 1 - SIDE else "center"


def short(unit: str) -> str:
    """A unit where there is room for few letters."""
    return {"Euclidean distance": "distance", "filter norms": "norms"}.get(unit, unit)


def title(panel: Panel) -> str:
    """What a panel shows."""
    return f"{panel.label}: {panel.model}, {panel.data}"
