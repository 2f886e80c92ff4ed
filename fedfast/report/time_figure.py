"""Where the time of a round goes: local training, the server's step, tests, the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..history import History
from .style import (
    COLOURS,
    COLUMN,
    HATCHES,
    SMALL,
    TEXT,
    figure_of,
    label_text,
    legend_below,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR, FOOT = 0.2, 0.5  # inches of a bar, and of the axis below
LINE = 0.55  # of a bar's height, for each further line of its label
WIDTH = 20  # characters of a label beside the bars
LATER = "training and server"  # of histories that do not tell them apart


@dataclass(frozen=True)
class Phases:
    """Seconds of a round, means over all rounds of a group's runs; `rest` is what else was done."""

    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Of a round."""
        return math.fsum(self.seconds.values())


def phases(histories: Sequence[History], whole: Sequence[float]) -> Phases | None:
    """The mean round of several runs; None where nothing was timed.

    whole  seconds of each run in all, data and model aside; what remains of it is the rest:
           checkpoints, callbacks, logging
    """
    rounds = sum(map(len, histories))
    columns = {
        name: _total(histories, name)
        for name in ("seconds", "server_seconds", "evaluation_seconds")
    }
    if not columns["seconds"] or not rounds:
        return None
    told = bool(columns["server_seconds"])
    found = {"local training" if told else LATER: columns["seconds"] - columns["server_seconds"]}
    found |= {"server": columns["server_seconds"], "tests": columns["evaluation_seconds"]}
    if told:
        found["rest"] = max(0.0, math.fsum(whole) - columns["seconds"] - found["tests"])
    return Phases({name: value / rounds for name, value in found.items() if value > 0})


def _total(histories: Sequence[History], name: str) -> float:
    values = (value for history in histories for value in history.column(name))
    return math.fsum(value for value in values if math.isfinite(value))


def bars(groups: Mapping[str, Phases]) -> Figure:
    """A bar per group, its phases side by side, the sum at its end."""
    texts = [label_text(label, WIDTH) for label in groups]
    heights = [1 + LINE * text.count("\n") for text in texts]
    places = np.cumsum(heights) - np.array(heights) / 2
    figure = figure_of((COLUMN, FOOT + BAR * sum(heights)))
    ax = figure.subplots()
    unit = _stacked(ax, list(groups.values()), places)
    ax.set_yticks(places, texts)
    ax.set_ylim(sum(heights), 0)
    ax.set_xlabel(f"time of a round ({unit}), mean")
    plain_axes(ax)
    ax.grid(visible=False, axis="y")
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure


def _stacked(ax: Axes, groups: Sequence[Phases], places: np.ndarray) -> str:
    """Draws the bars at these places; returns the unit."""
    scale, unit = (1.0, "s") if max(found.total for found in groups) >= 1 else (1e3, "ms")
    left = np.zeros(len(groups))
    for i, name in enumerate(dict.fromkeys(name for found in groups for name in found.seconds)):
        widths = np.array([scale * found.seconds.get(name, 0.0) for found in groups])
        made = ax.barh(places, widths, 0.7, left, label=name, color=COLOURS[i], edgecolor="white")
        for bar in made:
            bar.set(hatch=HATCHES[i], linewidth=0)
        left += widths
    for y, width in zip(places, left, strict=True):
        text = f"{width:.3g}" if width < 999.5 else f"{width:.0f}"
        ax.text(width + left.max() / 70, y, text, va="center", fontsize=SMALL, color=TEXT)
    ax.set_xlim(0, 1.16 * left.max())
    return unit
