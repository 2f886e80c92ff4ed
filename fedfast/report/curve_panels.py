"""Axes of curves: lines with seed bands, and what their axes say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bands import Band, Floats
from .style import DASHES, FAINT, SMALL, TEXT, LineStyle, label_text, plain_axes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FEW = 12  # points of a curve of which every third has a marker, or all of less than four
MARKS = 7  # markers of a longer one
GAPS = (DASHES[0], DASHES[4], DASHES[3], DASHES[1], DASHES[2])  # above: what shows most below it
MANY = 6  # curves whose bands lie over each other
ASIDE, ALL = 0.5, 1.6  # rounds between single points, and over which those of all are spread
FALL = 5  # a loss that fell so many times has a logarithmic axis
NAMES = {
    "accuracy": "test accuracy",
    "local_accuracy": "local accuracy",
    "personal_accuracy": "personal accuracy",
    "loss": "test loss",
    "train_loss": "training loss",
}
# Columns of metrics that come with fedfast; one's own are called as they are.
MEASURED = {
    "cosine_global": "client–mean cosine",
    "cosine_pairs": "client–client cosine",
    "conflicts": "conflicting pairs (share)",
    "conflicts_tensors": "conflicts by tensor (share)",
    "conflicts_after": "conflicts left (share)",
    "conflicts_tensors_after": "left by tensor (share)",
    "delta_eps": "perturbation error",
    "delta_eps_cosine": "update cosine",
    "model_norm": "parameter norm",
    "drift_global": "squared drift from global",
    "drift_mean": "squared drift from mean",
    "momentum_cosine": "momentum cosine",
}
ACCURACIES = frozenset(name for name in NAMES if name.endswith("accuracy"))


def name_of(column: str) -> str:
    """What an axis calls a column."""
    return NAMES.get(column) or MEASURED.get(column, column)


def axis_text(column: str) -> str:
    """The same with its unit."""
    return f"{name_of(column)}{' (%)' if column in ACCURACIES else ''}"


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
    wide = min(ALL, ASIDE * (len(curves) - 1)) if _single(curves) else 0.0
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


def _single(curves: Sequence[Curve]) -> bool:
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


def round_axis(ax: Axes, curves: Sequence[Curve], start: float = 0.0) -> None:
    """Rounds from `start` to the last of any curve."""
    from matplotlib.ticker import MaxNLocator

    ends = sorted({float(c.band.rounds[-1]) for c in curves if len(c.band)}) or [1.0]
    if _single(curves):
        ax.set_xlim(ends[0] - 1, ends[-1] + 1)
        ax.set_xticks(ends if len(ends) <= FEW else [ends[0], ends[-1]])
    else:
        room = 0.02 * (ends[-1] - start)
        ax.set_xlim(start, ends[-1] + max(room, 0.3 if ends[-1] < FEW else 0.0))
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=True))
    each = max((c.band.each for c in curves), default=1)
    ax.set_xlabel("round" if each == 1 else f"round (each point: mean of {each} tested rounds)")
    plain_axes(ax)


def value_axis(ax: Axes, name: str, limits: tuple[float, float], log: bool = False) -> None:
    """The unit, numbers and limits of a measure's axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    share = name in ACCURACIES
    ax.set_ylabel(axis_text(name))
    if log:
        ax.set_yscale("log")
        _log_numbers(ax, limits)
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    if share:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{round(100 * y, 6):g}"))
        limits = max(-0.005, limits[0]), min(1.005, limits[1])
    ax.set_ylim(limits)
    plain_axes(ax)


def falls_far(curves: Sequence[Curve]) -> bool:
    """Whether a linear axis would press the end of the curves into a line."""
    means = np.concatenate([c.band.mean for c in curves])
    return bool(means.size) and means.min() > 0 and means.max() > FALL * means.min()


def _log_numbers(ax: Axes, limits: tuple[float, float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    wide = limits[1] > 300 * limits[0]
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def outside_text(curves: Sequence[Curve], outside: Sequence[int]) -> str:
    """Which curves a panel does not show, "" where it shows all."""
    if not outside:
        return ""
    if len(outside) > 1:
        return f" (outside: {len(outside)} curves)"
    name = label_text(curves[outside[0]].label, 26).partition("\n")
    return f" (outside: {name[0]}{'…' if name[1] else ''})"


def note(ax: Axes, text: str) -> None:
    """A line above the axes, at their left edge."""
    ax.set_title(text, loc="left", color=TEXT, fontsize=SMALL, pad=3)
