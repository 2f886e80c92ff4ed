"""Curves per round of single runs, and `partition`: samples per client and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._messages import path_of
from . import curve_figures, curve_panels
from .bands import Columns, band
from .curve_panels import Curve
from .limits import late_start
from .partition_plot import partition
from .style import COLUMN, figure_of, legend_below, line_style, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves", "partition"]

TALL, LATE_TALL = 2.3, 1.6  # inches


def curves(histories: Mapping[str, Columns], path: str | Path | None = None) -> Figure:
    """Test accuracy and test loss per round, one curve per label; written to `path` if given.

    Below each of them, of runs long enough, its last 20 % by limits of their own. Without a global
    test set accuracies on the clients' own test parts take their place, or else the training loss.
    """
    names = _measures(histories)
    drawn = {name: _curves(histories, name) for name in names}
    starts = [late_start([c.band for c in found]) for found in drawn.values()]
    late = [s for s in starts if s is not None]
    tall = [TALL, LATE_TALL] if len(late) == len(names) else [TALL]
    figure = figure_of((COLUMN * len(names), sum(tall)))
    axes = figure.subplots(len(tall), len(names), squeeze=False, height_ratios=tall)
    for i, (name, found) in enumerate(drawn.items()):
        curve_figures.all_rounds(axes[0, i], found, name)
        if len(tall) > 1:
            axes[0, i].set_xlabel("")
            curve_figures.last_rounds(axes[1, i], found, name, late[i])
    legend_below(figure, *curve_panels.legend_entries(drawn[names[0]]))
    if path is not None:
        save(figure, path_of("path", path))
    return figure


def _curves(histories: Mapping[str, Columns], name: str) -> list[Curve]:
    return [
        Curve(label, band([history], name).binned(), line_style(i))
        for i, (label, history) in enumerate(histories.items())
    ]


def _measures(histories: Mapping[str, Columns]) -> Sequence[str]:
    """The first pair of columns of which something was measured."""
    for pair in (("accuracy", "loss"), ("local_accuracy", "personal_accuracy")):
        there = [n for n in pair if any(len(band([h], n)) for h in histories.values())]
        if there:
            return there
    return ["train_loss"]
