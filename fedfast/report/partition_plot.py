"""Clients x classes: a dot for every class of a client, its area the number of samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .style import COLOURS, COLUMN, MEDIUM, SMALL, TEXT, figure_of, plain_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Layout:
    """Sizes of a chart, in inches where nothing else is said.

    band     clients side by side; more continue below
    rows     classes one above the other, all bands together
    width    of a full band
    least    of the whole figure's width
    cells    from one client to the next: least, most
    gap      between bands, for the clients' numbers
    rest     for title and legend
    overlap  by which the largest dot is wider than its cell
    number   that a number needs along the x- and y-axis
    small, medium  points of numbers, and of labels and title
    """

    band: int
    rows: int
    width: float
    least: float
    cells: tuple[float, float]
    gap: float
    rest: float
    overlap: float
    number: tuple[float, float]
    small: float
    medium: float


SCREEN = Layout(100, 200, 9.0, 5.0, (0.1, 0.42), 0.55, 0.9, 0.06, (0.4, 0.2), 10.0, 11.0)
PAPER = Layout(50, 60, 2.5, COLUMN, (0.05, 0.25), 0.4, 0.9, 0.03, (0.25, 0.13), SMALL, MEDIUM)


def partition(
    counts: np.ndarray,
    path: str | Path | None = None,
    title: str | None = None,
    layout: Layout = SCREEN,
) -> Figure:
    """Samples per client and class as a figure; written to `path` if given (.png, .pdf, .svg, ...).

    counts  int64 [N, classes], as `FederatedData.counts` returns them
    layout  `SCREEN`, or `PAPER` for one column of a paper
    Clients are drawn side by side in bands, as many as stay readable; the axis label says how many
    are left out. Raises ValueError for a format that cannot be written.
    """
    from matplotlib.ticker import MultipleLocator

    bands = _bands(len(counts), counts.shape[1], layout)
    shown = sum(len(band) for band in bands)
    cell = float(np.clip(layout.width / min(layout.band, len(counts)), *layout.cells))
    tall = cell * counts.shape[1]
    wide = max(layout.least, cell * len(bands[0]) + 1.0)
    made = figure_of((wide, len(bands) * (tall + layout.gap) + layout.rest))
    text = title or f"{len(counts):,} clients, {counts.sum():,} samples"
    lines = fill(text, int(121 * wide / layout.medium))
    made.suptitle(lines, x=0.012, ha="left", color=TEXT, fontsize=layout.medium)
    axes = made.subplots(len(bands), 1, squeeze=False)[:, 0]
    scale = (72 * (cell + layout.overlap)) ** 2 / counts.max()  # points² per sample
    for band, ax in zip(bands, axes, strict=True):
        _band(ax, counts, band, scale, layout)
        for axis, inches in zip((ax.xaxis, ax.yaxis), layout.number, strict=True):
            axis.set_major_locator(MultipleLocator(_tick_step(inches / cell)))
    rest = f" (the first {shown:,} of {len(counts):,})" if shown < len(counts) else ""
    axes[-1].set_xlabel(f"client{rest}")
    _legend(made, axes[0], counts, scale, layout)
    if path is not None:
        save(made, path)
    return made


def _bands(clients: int, classes: int, layout: Layout) -> list[range]:
    """The clients of each band; as many bands as the layout's rows allow."""
    each = layout.band
    count = min(-(-clients // each), max(1, layout.rows // classes))
    return [range(a, min(a + each, clients)) for a in range(0, count * each, each)]


def _band(ax: Axes, counts: np.ndarray, band: range, scale: float, layout: Layout) -> None:
    part = counts[band.start : band.stop]
    client, label = np.nonzero(part)
    sizes = scale * part[client, label]
    _dots(ax, band.start + client, label, sizes)
    wide = max(len(band), min(layout.band, len(counts)))  # the last band keeps the others' cells
    ax.set_xlim(band.start - 0.8, band.start + wide - 0.2)
    ax.set_ylim(-0.8, counts.shape[1] - 0.2)
    ax.set_aspect("equal")
    ax.set_ylabel("class")
    plain_axes(ax, layout.small, layout.medium)


def _dots(ax: Axes, x: ArrayLike, y: ArrayLike, sizes: ArrayLike, label: str | None = None) -> None:
    # A thin edge keeps a single sample visible where others have thousands.
    ax.scatter(x, y, s=sizes, color=COLOURS[0], alpha=0.75, linewidths=0.4, label=label)


def _tick_step(least: float) -> int:
    """The first of 1, 2, 5, 10, ... that is not below `least`."""
    return next(number for number in _rounds(9) if number >= least)


def _rounds(digits: int) -> list[int]:
    return [m * 10**e for e in range(digits) for m in (1, 2, 5)]


def _legend(made: Figure, ax: Axes, counts: np.ndarray, scale: float, layout: Layout) -> None:
    """Dots of three round numbers of samples, the largest near the largest count."""
    numbers = _numbers(int(counts.max()))
    for number in numbers:
        _dots(ax, [], [], scale * number, f"{number:,}")
    made.legend(
        loc="outside lower right",
        title="samples",
        title_fontsize=layout.small,
        fontsize=layout.small,
        ncols=3,
        frameon=False,
        labelcolor=TEXT,
        handleheight=max(1.0, (scale * numbers[-1]) ** 0.5 / layout.small),  # in letters
    )


def _numbers(largest: int) -> list[int]:
    """At most three of 1, 2, 5, 10, 20, ... up to `largest`, some steps apart."""
    fitting = [number for number in _rounds(len(str(largest))) if number <= largest]
    return fitting[::-2][:3][::-1]
