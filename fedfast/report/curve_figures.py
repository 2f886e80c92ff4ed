"""Figures of curves: a measure per round with its last 20 %, and against the bytes exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from . import curve_panels as panels
from . import small_multiples
from .bands import Floats
from .column_names import ACCURACIES, NAMES, axis_text
from .curve_axes import falls_far, note, outside_text, round_axis, value_axis
from .curve_panels import Curve
from .limits import Limits, late_limits, late_start, loss_top, padded
from .style import COLUMN, MEDIUM, TEXT, figure_of, legend_below, plain_axes
from .units import size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TALL, LATE_TALL = 1.95, 1.3  # inches of a panel with its numbers
DECADES = 30  # a metric that spans so much has a logarithmic axis
EARLY = 1 / 8  # of the bytes, which a logarithmic axis would give half of its length


def per_round(curves: Sequence[Curve], name: str, target: float | None = None) -> Figure:
    """All rounds, and below the last 20 % of them where these are at least five points and the
    measure is a loss or an accuracy. Curves that lie on each other have a panel each."""
    start = late_start([curve.band for curve in curves]) if name in NAMES else None
    if small_multiples.crowded(curves, *_whole(curves, name)):
        return _one_by_one(curves, name, target, start)
    tall = [TALL] if start is None else [TALL, LATE_TALL]
    figure = figure_of((COLUMN, sum(tall)))
    axes = figure.subplots(len(tall), 1, squeeze=False, height_ratios=tall)[:, 0]
    all_rounds(axes[0], curves, name, target)
    if start is not None:
        axes[0].set_xlabel("")
        last_rounds(axes[1], curves, name, start)
        figure.align_ylabels()
    _legend(figure, curves, name, target)
    return figure


def _one_by_one(
    curves: Sequence[Curve], name: str, target: float | None, start: float | None
) -> Figure:
    """Small panels of all rounds, one for each curve, above that of the last rounds of all."""
    lines, across = small_multiples.rows_of(curves), small_multiples.ACROSS
    tall = [small_multiples.TALL] * lines + ([] if start is None else [LATE_TALL])
    figure = figure_of((COLUMN, sum(tall) + 0.35))
    grid = figure.add_gridspec(len(tall), across, height_ratios=tall)
    small = [[figure.add_subplot(grid[i, j]) for j in range(across)] for i in range(lines)]
    small_multiples.draw(np.array(small), curves, name, _whole(curves, name), start is None)
    for ax in figure.axes:
        _target(ax, name, target)
    figure.supylabel(axis_text(name), fontsize=MEDIUM, color=TEXT)
    if start is not None:
        ax = figure.add_subplot(grid[lines, :])
        last_rounds(ax, curves, name, start)
        ax.set_ylabel("")
    _legend(figure, curves, name, target, named=start is not None)
    return figure


def all_rounds(ax: Axes, curves: Sequence[Curve], name: str, target: float | None = None) -> None:
    """Every round; a loss that fell far on a logarithmic axis."""
    panels.draw(ax, curves)
    _target(ax, name, target)
    round_axis(ax, curves)
    limits, log = _whole(curves, name)
    value_axis(ax, name, limits, log)


def last_rounds(ax: Axes, curves: Sequence[Curve], name: str, start: float) -> None:
    """The rounds from `start` on, by limits of their own."""
    late = [replace(curve, band=curve.band.after(start)) for curve in curves]
    panels.draw(ax, late)
    round_axis(ax, late, start)
    limits, outside = late_limits([curve.band for curve in late])
    value_axis(ax, name, limits)
    note(ax, f"last 20 %{outside_text(curves, outside)}")


def against_bytes(
    curves: Sequence[Curve], sent: Sequence[Floats], name: str, target: float | None = None
) -> Figure:
    """The measure after so many bytes in both directions (Figure 9 of the FedGloSS paper).

    sent  [T] of each curve: bytes that server and cohorts have exchanged until each round
    What comes before an eighth of the shortest curve's bytes, where none has learnt much, is left
    out on both axes.
    """
    figure = figure_of((COLUMN, TALL + 0.15))
    ax = figure.subplots()
    start = min((float(x[-1]) for x in sent if len(x)), default=1.0) * EARLY
    late = [x >= start for x in sent]
    bands = [replace(c.band.taken(at), ends=()) for c, at in zip(curves, late, strict=True)]
    cut = [replace(curve, band=band) for curve, band in zip(curves, bands, strict=True)]
    sent = [x[at] for x, at in zip(sent, late, strict=True)]
    panels.draw(ax, cut, sent)
    _target(ax, name, target)
    limits, log = _whole(cut, name)
    value_axis(ax, name, _with(target if name in ACCURACIES else None, limits), log)
    _byte_axis(ax, sent)
    _legend(figure, cut, name, target)
    return figure


def _whole(curves: Sequence[Curve], name: str) -> tuple[Limits, bool]:
    """Limits of all rounds, and whether they are logarithmic."""
    bands = [curve.band for curve in curves if len(curve.band)]
    if not bands:
        return (0.0, 1.0), False
    spread = [b.mean + s * np.nan_to_num(b.std) for b in bands for s in (-1.0, 1.0)]
    low, high = (float(f([f(values) for values in spread])) for f in (np.min, np.max))
    if name in ACCURACIES:
        return padded(low, high), False
    least = min(float(b.mean.min()) for b in bands)
    if name not in NAMES:  # of a metric, which may rise as far as it likes
        log = least > 0 and high > DECADES * least
        return ((least / 1.15, high * 1.15) if log else padded(low, high)), log
    if falls_far(curves):
        return (least / 1.15, loss_top(bands) * 1.15), True
    return padded(low, min(high, loss_top(bands) * 1.15)), False


def _with(target: float | None, limits: Limits) -> Limits:
    if target is None:
        return limits
    return min(limits[0], target - 0.01), max(limits[1], target + 0.01)


def _target(ax: Axes, name: str, target: float | None) -> None:
    if target is not None and name in ACCURACIES:
        ax.axhline(target, color=TEXT, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1.8)


def _legend(
    figure: Figure, curves: Sequence[Curve], name: str, target: float | None, named: bool = True
) -> None:
    """named: whether each curve has a line; titles name those that have panels of their own."""
    from matplotlib.lines import Line2D

    handles, labels = panels.legend_entries(curves)
    if not named:
        own = sum(curve.style is not None for curve in curves)
        handles, labels = handles[own:], labels[own:]
    if target is not None and name in ACCURACIES:
        handles.append(Line2D([], [], color=TEXT, linewidth=0.8, linestyle=(0, (2, 2))))
        labels.append(f"target {100 * target:g} %")
    legend_below(figure, handles, labels)


def _byte_axis(ax: Axes, sent: Sequence[Floats]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = np.concatenate([*sent, np.zeros(0)])
    known = known[known > 0]
    ax.set_xscale("log")
    low, high = (float(known.min()), float(known.max())) if known.size else (1e6, 1e9)
    if high < 1.5 * low:
        low, high = low / 2, high * 2
    ax.set_xlim(low / 1.08, high * 1.08)
    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: size(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("bytes exchanged, both directions")
    plain_axes(ax)
