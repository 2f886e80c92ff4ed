"""What the axes of curves say: rounds, values, notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .column_names import ACCURACIES, axis_text
from .curve_panels import FEW, Curve, single
from .style import SMALL, TEXT, label_text, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FALL = 5  # a loss that fell so many times has a logarithmic axis


def round_axis(ax: Axes, curves: Sequence[Curve], start: float = 0.0) -> None:
    """Rounds from `start` to the last of any curve."""
    from matplotlib.ticker import MaxNLocator

    ends = sorted({float(c.band.rounds[-1]) for c in curves if len(c.band)}) or [1.0]
    if single(curves):
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
