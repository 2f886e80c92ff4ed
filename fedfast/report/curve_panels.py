"""Curves on axes: lines with seed bands, and their legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bands import Band, Floats
from .style import DASHES, FAINT, TEXT, LineStyle

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FEW = 12  # points of a curve of which every third has a marker, or all of less than four
MARKS = 7  # markers of a longer one
GAPS = (DASHES[0], DASHES[4], DASHES[3], DASHES[1], DASHES[2])  # above: what shows most below it
MANY = 6  # curves whose bands lie over each other
ASIDE, ALL = 0.5, 1.6  # rounds between single points, and over which those of all are spread


@dataclass(frozen=True)
class Curve:
    """One group of runs; without a style of its own it is one of many others."""

    label: str
    band: Band
    style: LineStyle | None


def draw(ax: Axes, curves: Sequence[Curve], x: Sequence[Floats] | None = None) -> None:
    """Means as lines, mean ± std as bands, a cross where a run ended early.

    x  of each curve, by default its rounds; given ones are for a logarithmic axis
    """
    alpha = 0.18 if len(curves) <= MANY else 0.09
    wide = min(ALL, ASIDE * (len(curves) - 1)) if single(curves) else 0.0
    for i, (curve, aside) in enumerate(
        zip(curves, np.linspace(-wide, wide, len(curves)) / 2, strict=True)
    ):
        at = curve.band.rounds + aside if x is None else x[i]
        _line(ax, curve, at, _marked(at if x is None else np.log(at), i))
        _spread(ax, curve, at, alpha)
        if x is None and curve.band.ends:
            colour = curve.style.colour if curve.style else FAINT
            ends = np.array(curve.band.ends)
            ax.plot(ends[:, 0] + aside, ends[:, 1], "x", color=colour, markersize=5, zorder=4)


def single(curves: Sequence[Curve]) -> bool:
    """Whether every curve is a single point."""
    return all(len(curve.band) == 1 for curve in curves)


def _marked(x: Floats, i: int) -> list[int]:
    """Which points of curve `i` get a marker: all of few, of more some at even distances.

    Those of neighbours are shifted against each other, so that none hides another's.
    """
    if len(x) <= FEW:
        return list(range(len(x))) if len(x) < 4 else list(range(i % 3, len(x), 3))
    step = (x[-1] - x[0]) / MARKS
    wanted = x[0] + step * (np.arange(MARKS) + (i % 7 + 0.5) / 7)
    return sorted({int(np.abs(x - at).argmin()) for at in wanted})


def _line(ax: Axes, curve: Curve, x: Floats, marked: list[int]) -> None:
    style = curve.style
    if style is None:
        ax.plot(x, curve.band.mean, "-", color=FAINT, linewidth=0.6, zorder=1.5)
        return
    ax.plot(
        x,
        curve.band.mean,
        linestyle=style.dash,
        color=style.colour,
        marker=style.marker,
        markevery=marked,
        markersize=3.4,
        markeredgewidth=0.4,
        markeredgecolor="white",
        linewidth=1.1,
        zorder=3 + GAPS.index(style.dash) / 10,
    )


def _spread(ax: Axes, curve: Curve, x: Floats, alpha: float) -> None:
    known = np.isfinite(curve.band.std)
    if not known.any() or curve.style is None:
        return
    x, mean, std = x[known], curve.band.mean[known], curve.band.std[known]
    colour = curve.style.colour
    if len(x) == 1:  # an area of one point has no width
        ax.errorbar(x, mean, std, color=colour, capsize=2.5, linewidth=0.9, linestyle="none")
        return
    ax.fill_between(x, mean - std, mean + std, color=colour, alpha=alpha, linewidth=0, zorder=2)


def legend_entries(curves: Sequence[Curve]) -> tuple[list[Artist], list[str]]:
    """A line per curve that has a style, one for all others, and what bands and crosses mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    own = [(_handle(curve.style), curve.label) for curve in curves if curve.style]
    made: list[tuple[Artist, str]] = list(own)
    if others := len(curves) - len(own):
        made.append((Line2D([], [], color=FAINT, linewidth=0.8), f"{others} others"))
    if seeds := {int(n) for c in curves for n in c.band.count if n > 1}:
        low, high = min(seeds), max(seeds)
        span = str(high) if low == high else f"{low}–{high}"
        made.append((Patch(color=FAINT, alpha=0.4, linewidth=0), f"± std over {span} seeds"))
    if any(curve.band.ends for curve in curves):
        cross = Line2D([], [], color=TEXT, marker="x", linestyle="none", markersize=5)
        made.append((cross, "run that ended early"))
    handles, labels = zip(*made, strict=True) if made else ((), ())
    return list(handles), list(labels)


def _handle(style: LineStyle) -> Artist:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle=style.dash, color=style.colour, marker=style.marker, markersize=3.8,
        markeredgewidth=0.4, markeredgecolor="white", linewidth=1.2,
    )  # fmt: skip
