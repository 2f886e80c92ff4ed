"""The figure of `fedfast sharpness`: which tensors are sharp, and which ones clients move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.sharpness.sharpness_rows import GLOBAL, LAYER, MOVED, OWN, TRAIN, Sharpness
from .style import (
    COLOURS,
    COLUMN,
    MARKERS,
    MEDIUM,
    TEXT,
    figure_of,
    label_text,
    legend_below,
    logarithmic,
    nothing_finite,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 28  # tensors that are drawn; of more the sharpest of the first label's global model
FEW = 5  # numbers on a linear axis, at most between them
LINE, EACH = 0.13, 0.055  # inches of a tensor's line, and of a label's marker in it
# what, data, whether of the global model, title
Panel = tuple[str, str, bool, str]
PANELS: tuple[Panel, ...] = (
    (LAYER, TRAIN, True, "rise of the loss, global model"),
    (LAYER, OWN, False, "rise of the loss, clients, own samples"),
    (MOVED, "", False, "mean squared change, clients"),
)


def layers(found: Sequence[Sharpness]) -> Figure:
    """Panels one below the other, a line for each tensor; labels of one architecture or not."""
    names = _names(found)
    several = any(one.clients for one in found)
    panels = PANELS if several else PANELS[:1]
    line = max(LINE, EACH * len(found))
    figure = figure_of((COLUMN, len(panels) * (0.55 + line * len(names))))
    drawn = figure.subplots(len(panels), 1, squeeze=False)
    for ax, panel in zip(drawn.flat, panels, strict=True):
        _panel(ax, found, names, panel)
    legend_below(figure, *drawn.flat[0].get_legend_handles_labels())
    return figure


def _names(found: Sequence[Sharpness]) -> list[str]:
    names = list(dict.fromkeys(name for one in found for name in one.tensors()))
    first = found[0].values
    kept = sorted(names, key=lambda name: -first.get((GLOBAL, TRAIN, LAYER, name), 0.0))[:LONGEST]
    return [name for name in names if name in kept]


def _panel(ax: Axes, found: Sequence[Sharpness], names: Sequence[str], panel: Panel) -> None:
    what, data, whole, title = panel
    shown: list[float] = []
    for i, one in enumerate(found):
        models = [GLOBAL] if whole else one.clients
        known = set(one.tensors())
        values = [one.mean(models, data, what, n) if n in known else np.nan for n in names]
        shown += [value for value in values if np.isfinite(value)]
        # Apart by a part of a line each, so that no marker hides another.
        at = np.arange(len(names)) + 0.8 * ((i + 0.5) / len(found) - 0.5)
        marker, colour = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
        ax.plot(values, at, marker, color=colour, markersize=3.2, label=one.label, clip_on=False)
    ax.set_yticks(range(len(names)), [label_text(name, 30) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    if not shown:
        nothing_finite(ax)
        ax.set_xticks([])
    elif not logarithmic(ax, shown):
        ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
        ax.locator_params(axis="x", nbins=FEW)
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 3))
        ax.xaxis.get_offset_text().set_fontsize(MEDIUM - 1)
    ax.set_title(title, fontsize=MEDIUM, color=TEXT, pad=3)
    plain_axes(ax)
