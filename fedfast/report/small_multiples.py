"""Curves that lie on each other: a panel for each, with the others in grey behind it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from . import curve_panels as panels
from .bands import Band
from .curve_axes import round_axis, value_axis
from .curve_panels import Curve
from .limits import Limits
from .style import FAINT, SMALL, TEXT, label_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAR = 0.04  # of an axis' height, about a marker's: no eye follows three curves within it
CROWD = 2  # curves near another one that make a crowd
ACROSS, TALL = 3, 0.72  # panels in a row, and inches of one with its title
WIDTH = 18  # characters of a title


def crowded(curves: Sequence[Curve], limits: Limits, log: bool) -> bool:
    """Whether some curve has several others on it in half of its rounds or more."""
    near = dict.fromkeys(range(len(curves)), 0)
    for i, j in combinations(range(len(curves)), 2):
        if _apart(curves[i].band, curves[j].band, limits, log) < NEAR:
            near[i], near[j] = near[i] + 1, near[j] + 1
    return max(near.values(), default=0) >= CROWD


def _apart(a: Band, b: Band, limits: Limits, log: bool) -> float:
    """The median distance in common rounds, as a share of the axis; single points never meet."""
    _, i, j = np.intersect1d(a.rounds, b.rounds, return_indices=True)
    if len(i) < 2:
        return np.inf
    at = np.log if log else np.asarray
    low, high = at(np.array(limits))
    return float(np.median(np.abs(at(a.mean[i]) - at(b.mean[j])))) / (high - low)


def rows_of(curves: Sequence[Curve]) -> int:
    """How many rows of panels they take."""
    return -(-sum(curve.style is not None for curve in curves) // ACROSS)


def draw(
    axes: np.ndarray, curves: Sequence[Curve], name: str, axis: tuple[Limits, bool], last: bool
) -> None:
    """Every curve that has a style in a panel of its own `[rows, ACROSS]`, all by the same axes.

    axis  limits of the values, and whether they are logarithmic; last: nothing is below the panels
    """
    own = [curve for curve in curves if curve.style is not None]
    for i, (ax, curve) in enumerate(zip(axes.flat, own, strict=False)):
        for other in curves:
            ax.plot(other.band.rounds, other.band.mean, "-", color=FAINT, linewidth=0.4, alpha=0.6)
        panels.draw(ax, [curve])
        ax.lines[len(curves)].set(linestyle="-", marker="")  # alone it needs no signs
        round_axis(ax, curves)
        value_axis(ax, name, *axis)
        ax.set_title(label_text(curve.label, WIDTH), fontsize=SMALL, color=TEXT, pad=2)
        _outer(ax, left=i % ACROSS == 0, below=i + ACROSS >= len(own))
    for ax in axes.flat[len(own) :]:
        ax.remove()
    if last:
        axes[-1, min(1, len(own) - ACROSS * (len(axes) - 1) - 1)].set_xlabel("round")


def _outer(ax: Axes, left: bool, below: bool) -> None:
    """Numbers at the edges alone; what axes are is said once, by the figure."""
    ax.set(xlabel="", ylabel="")
    ax.tick_params(labelleft=left, labelbottom=below)
    ax.locator_params(axis="x", nbins=3)
    if ax.get_yscale() == "linear":
        ax.locator_params(axis="y", nbins=4)
