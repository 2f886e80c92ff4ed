"""Curves per round, and `partition`: samples per client and class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .._messages import path_of
from .partition_plot import partition
from .style import COLOURS, TEXT, figure_of, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves", "partition"]

TITLES = {
    "accuracy": "Test accuracy",
    "loss": "Test loss",
    "train_loss": "Training loss",
    "local_accuracy": "Global model on clients' own tests",
    "personal_accuracy": "Personal models on their own tests",
}
ACCURACIES = {name for name in TITLES if name.endswith("accuracy")}
DASHES = ("-", "--", ":", "-.")  # the next dash when the colours begin again


class Columns(Protocol):
    """What is drawn of a run, `History` for one: `column(name)`, a number per round."""

    def column(self, name: str) -> Sequence[float]:
        """The values of one column, nan where a round has none."""
        ...


def curves(histories: Mapping[str, Columns], path: str | Path | None = None) -> Figure:
    """Test accuracy and test loss per round, one curve per label; written to `path` if given.

    Without a global test set accuracies on the clients' own test parts take their place, or else
    the training loss. A dot marks each best round.
    """
    panels = _panels(histories)
    figure = figure_of((5.2 * len(panels), 4.2))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        _panel(ax, panel, histories)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=min(5, len(labels)),
        frameon=False,
        labelcolor=TEXT,
        handlelength=1.8,
    )
    if path is not None:
        _write(figure, path_of("path", path))
    return figure


def _write(figure: Figure, path: Path) -> None:
    kind, known = path.suffix[1:] or "png", figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(
            f"path: expected a name that ends in .png, .pdf or .svg; got {str(path)!r}"
        )
    figure.savefig(path, dpi=160, format=kind)


def _panels(histories: Mapping[str, Columns]) -> Sequence[str]:
    """The first pair of columns of which something was measured."""
    for pair in (("accuracy", "loss"), ("local_accuracy", "personal_accuracy")):
        if found := [name for name in pair if any(_points(h, name) for h in histories.values())]:
            return found
    return ["train_loss"]


def _points(history: Columns, name: str) -> list[tuple[float, float]]:
    pairs = zip(history.column("round"), history.column(name), strict=True)
    return [(t, value) for t, value in pairs if math.isfinite(value)]


def _panel(ax: Axes, name: str, histories: Mapping[str, Columns]) -> None:
    for i, (label, history) in enumerate(histories.items()):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        points = _points(history, name)
        rounds, values = zip(*points, strict=True) if points else ((), ())
        few = "o" if len(points) < 2 else None  # one point makes no line
        ax.plot(rounds, values, dash, color=colour, marker=few, linewidth=1.7, label=label)
        if name in ACCURACIES and points:
            best = max(points, key=lambda point: point[1])
            ax.plot(*best, "o", color=colour, markersize=5, zorder=4)
            ax.plot(*best, "o", color="white", markersize=2, zorder=5)
    _style(ax, name)


def _style(ax: Axes, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_title(TITLES[name], loc="left", color=TEXT, fontsize=11, fontweight="bold")
    ax.set_xlabel("round", color=TEXT)
    ax.set_xlim(0, 1.02 * max(_drawn(ax, "x"), default=1.0))
    ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    _percent(ax) if name in ACCURACIES else _positive(ax)
    plain_axes(ax)


def _percent(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], nbins=7))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_ylim(top=min(1.005, ax.get_ylim()[1]))


def _positive(ax: Axes) -> None:
    """A loss that fell far gets a logarithmic axis: the late rounds are where methods differ."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = _drawn(ax, "y")
    if values and min(values) > 0 and max(values) > 5 * min(values):
        ax.set_yscale("log")
        ax.set_ylabel("log scale", color=TEXT, fontsize=8)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def _drawn(ax: Axes, axis: str) -> list[float]:
    """The coordinates of all points of all lines along one axis."""
    columns = (np.asarray(getattr(line, f"get_{axis}data")()) for line in ax.lines)
    return [float(number) for column in columns for number in column]
