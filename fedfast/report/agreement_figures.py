"""Figures of `fedfast agreement`: cosines between clients, conflicts tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.agreement.agreement_rows import KINDS, Agreement
from .style import (
    COLOURS,
    COLUMN,
    MARKERS,
    MEDIUM,
    SMALL,
    TEXT,
    figure_of,
    label_text,
    legend_below,
    nothing_finite,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MAP = "PuOr_r"  # orange against purple: told apart with every kind of colour vision
NUMBERED = 12  # clients of which each has its number on the axes
LONGEST = 28  # tensors that are drawn; of more those with the most conflicts
LEAST = 1  # % that an axis goes to
TITLE = 24  # characters above a panel
NAMES = dict(zip(KINDS, ("before", "after, whole models", "after, each tensor"), strict=True))


def matrices(found: Sequence[Agreement]) -> Figure:
    """Cosines between clients' updates, two labels in a row; the last column is the mean update."""
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    figure = figure_of((COLUMN, lines * (3.1 if columns == 1 else 1.75) + 0.5))
    drawn = figure.subplots(lines, columns, squeeze=False)
    for ax, one in zip(drawn.flat, found, strict=False):
        image = _matrix(ax, one)
    for ax in drawn.flat[len(found) :]:
        ax.remove()
    kept = list(drawn.flat[: len(found)])
    bar = figure.colorbar(image, ax=kept, location="bottom", aspect=40, pad=0.02)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize=SMALL, colors=TEXT, length=2)
    bar.set_label("cosine of two updates", fontsize=MEDIUM, color=TEXT)
    return figure


def _matrix(ax: Axes, one: Agreement) -> AxesImage:
    from matplotlib import colormaps

    clients = len(one.ids)
    gap = np.full((clients, 1), np.nan)
    table = np.hstack([one.cosines, gap, one.along[:, None]])
    colours = colormaps[MAP].with_extremes(bad="white")
    image = ax.imshow(table, cmap=colours, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    if not np.isfinite(one.cosines).any():
        nothing_finite(ax, "no client moves")
    step = max(1, -(-clients // NUMBERED))
    at = list(range(0, clients, step))
    texts = [str(one.ids[i]) for i in at]
    ax.set_yticks(at, texts)
    ax.set_xticks([*at, clients + 1], [*texts, "mean"], rotation=90)
    ax.tick_params(colors=TEXT, length=0, labelsize=SMALL - 1)
    ax.set_ylabel("client", fontsize=MEDIUM, color=TEXT)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(label_text(one.label, TITLE), fontsize=MEDIUM, color=TEXT, pad=3)
    return image


def tensors(one: Agreement) -> Figure:
    """Conflicting pairs of each tensor, before and after harmonization; of the first line, of
    whole models."""
    before = one.conflicts[KINDS[0]]
    names = [name for name in before if name]
    if len(names) > LONGEST:
        most = set(sorted(names, key=lambda name: -before[name])[:LONGEST])
        names = [name for name in names if name in most]
    lines = ["", *names]
    figure = figure_of((COLUMN, 0.75 + 0.2 * len(lines)))
    ax = figure.subplots()
    for i, (kind, text) in enumerate(NAMES.items()):
        values = [100 * one.conflicts[kind][name] for name in lines]
        # Apart by a part of a line each, so that no marker hides another.
        at = np.arange(len(lines)) + 0.28 * (i - 1)
        ax.plot(values, at, MARKERS[i], color=COLOURS[i], markersize=3.6, label=text, clip_on=False)
    ax.set_yticks(range(len(lines)), ["whole model", *(label_text(n, 30) for n in names)])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.set_xlim(0, max(LEAST, ax.get_xlim()[1]))
    ax.set_xlabel("pairs of clients in conflict (%)")
    plain_axes(ax)
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure
