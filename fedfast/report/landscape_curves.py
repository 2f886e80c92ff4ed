"""Landscapes as curves: loss and accuracy along the first direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..landscape.panels import Panel
from .landscape_figures import side_of, title
from .style import (
    COLUMN,
    FAINT,
    SMALL,
    TEXT,
    figure_of,
    label_text,
    legend_below,
    line_style,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(panels: Sequence[Panel]) -> Figure:
    """Loss and accuracy along the first direction, all panels on the same axes."""
    figure = figure_of((COLUMN, 3.3))
    upper, lower = figure.subplots(2, 1, sharex=True)
    lines = []
    for i, panel in enumerate(panels):
        loss, accuracy = panel.middle
        style = line_style(i)
        for ax, values in ((upper, loss), (lower, 100 * accuracy)):
            (line,) = ax.plot(panel.axes[0], values, color=style.colour, linestyle=style.dash)
            line.set(linewidth=1.2, marker=style.marker, markersize=3)
            step = max(1, len(loss) // 8)  # those of neighbours beside each other
            line.set_markevery((i * max(1, step // 3) % step, step))
        lines.append(line)
    values = np.concatenate([panel.middle[0] for panel in panels])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        upper.set_yscale("log")
        upper.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    upper.set_ylabel("loss (nats)")
    lower.set_ylabel("accuracy (%)")
    lower.set_xlabel(f"first direction ({panels[0].unit})")
    for ax in (upper, lower):
        plain_axes(ax)
    lower.locator_params(axis="x", nbins=5)
    _models_along(upper, lower, panels)
    whose = {f"{panel.model}, {panel.data}" for panel in panels}
    if len(whose) == 1:  # said once
        figure.suptitle(whose.pop(), fontsize=SMALL, color=TEXT)
    names = [title(panel) if whose else panel.label for panel in panels]
    legend_below(figure, list(lines), names)
    return figure


def _models_along(upper: Axes, lower: Axes, panels: Sequence[Panel]) -> None:
    """Where the models lie that all panels have in the same places along the first axis."""
    common = set.intersection(*(set(panel.marks.items()) for panel in panels))
    along = {name: at[0] for name, at in common if not any(at[1:])}
    if len(along) < 2:  # one alone is the model that the figure is of, at 0
        return
    for name, a in along.items():
        for ax in (upper, lower):
            ax.axvline(a, color=FAINT, linewidth=0.7, zorder=1.5)
        side = side_of(a, panels[0].axes[0])
        upper.annotate(
            label_text(name, 16), (a, 1.0), (0, 1), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha=side, va="bottom", fontsize=SMALL, color=TEXT,
        )  # fmt: skip
