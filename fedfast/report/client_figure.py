"""Histograms of clients' accuracies, one below the other, with their mean and worst tenth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .client_scores import PERSONAL, Spread
from .style import (
    COLUMN,
    MEDIUM,
    SMALL,
    TEXT,
    Dash,
    LineStyle,
    figure_of,
    label_text,
    legend_below,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 25  # of 4 % each, over the whole range or a part of it
TALL, FOOT, LINE = 0.5, 0.45, 0.13  # inches of a histogram, of the numbers below, of a text line
WORST_DASH: Dash = (0, (2, 1.5))
WIDTH = 34  # characters of a label beside its numbers


def histograms(spreads: Mapping[str, tuple[Spread, LineStyle]], name: str = "accuracy") -> Figure:
    """The share of clients per bin of accuracy, all seeds of a group together.

    spreads  label -> accuracies of its clients, and the colour of the group in other figures
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    texts = {label: label_text(label, WIDTH) for label in spreads}
    tall = [TALL + LINE * (text.count("\n") + 2) for text in texts.values()]
    figure = figure_of((COLUMN, sum(tall) + FOOT))
    axes = figure.subplots(len(spreads), 1, sharex=True, squeeze=False, height_ratios=tall)[:, 0]
    edges = _edges([values for spread, _ in spreads.values() for values in spread.seeds])
    for ax, (label, (spread, style)) in zip(axes, spreads.items(), strict=True):
        _histogram(ax, spread, style, edges)
        _heading(ax, texts[label], spread)
    axes[-1].set_xlabel(_axis_text(name))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{round(100 * x, 6):g}"))
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes[0].set_xlim(edges[0], edges[-1] + 0.01 * (edges[-1] - edges[0]))
    figure.supylabel("clients (%)", fontsize=MEDIUM, color=TEXT)
    legend_below(figure, *_legend())
    return figure


def _edges(values: list[np.ndarray]) -> np.ndarray:
    """Bins of 4 % from 0 to 1, of which empty ones at the left are left out."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    least = min(float(v.min()) for v in values)
    first = int(np.clip(np.searchsorted(edges, least, side="right") - 2, 0, BINS - 5))
    return edges[first:]


def _histogram(ax: Axes, spread: Spread, style: LineStyle, edges: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    values = np.concatenate(list(spread.seeds))
    weights = np.full(len(values), 100.0 / len(values))
    ax.hist(values, list(edges), weights=weights, color=style.colour, alpha=0.5, linewidth=0)
    ax.axvline(spread.mean, color=TEXT, linewidth=1.0)
    ax.axvline(spread.worst, color=TEXT, linewidth=1.0, linestyle=WORST_DASH)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    plain_axes(ax)


def _heading(ax: Axes, text: str, spread: Spread) -> None:
    """The label, and its three numbers in a line below."""
    numbers = (
        f"mean {100 * spread.mean:.1f}, worst 10 % {100 * spread.worst:.1f}, "
        f"std {100 * spread.std:.1f}"
    )
    ax.set_title(f"{text}\n{numbers}", loc="left", color=TEXT, fontsize=SMALL, pad=3)


def _axis_text(name: str) -> str:
    own = "accuracy on a client's own test part"
    return f"{own}, {'personal' if name == PERSONAL else 'global'} model (%)"


def _legend() -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D

    dashes: dict[str, Dash] = {"mean": "-", "mean of the worst 10 %": WORST_DASH}
    lines: list[Artist] = [
        Line2D([], [], color=TEXT, linewidth=1.0, linestyle=dash) for dash in dashes.values()
    ]
    return lines, list(dashes)
