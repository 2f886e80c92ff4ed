"""Clients x classes: a dot for every class of a client, its area the number of samples."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .style import COLOURS, TEXT, figure_of, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = 100  # clients side by side; more continue below
ROWS = 200  # classes one above the other, all bands together: about a screen
WIDTH = 9.0  # inches of a full band
CELLS = (0.1, 0.42)  # inches from one client to the next: least, most
GAP = 0.55  # inches between bands, for the clients' numbers
OVERLAP = 0.06  # inches by which the largest dot is wider than its cell
NUMBER_SIZE = {"x": 0.4, "y": 0.2}  # inches that a number needs along its axis


def partition(
    counts: np.ndarray, path: str | Path | None = None, title: str | None = None
) -> Figure:
    """Samples per client and class as a figure; written to `path` if given (.png, .pdf, .svg, ...).

    counts  int64 [N, classes], as `FederatedData.counts` returns them
    Clients are drawn side by side in bands of at most 100, as many bands as stay readable; the axis
    label says how many are left out. Raises ValueError for a format that cannot be written.
    """
    from matplotlib.ticker import MultipleLocator

    bands = _bands(*counts.shape)
    shown = sum(len(band) for band in bands)
    cell = float(np.clip(WIDTH / min(BAND, len(counts)), *CELLS))
    tall = cell * counts.shape[1]
    wide = max(5.0, cell * len(bands[0]) + 1.0)
    made = figure_of((wide, len(bands) * (tall + GAP) + 0.9))
    text = title or f"{len(counts):,} clients, {counts.sum():,} samples"
    made.suptitle(fill(text, int(11 * wide)), x=0.012, ha="left", color=TEXT, fontsize=11)
    axes = made.subplots(len(bands), 1, squeeze=False)[:, 0]
    scale = (72 * (cell + OVERLAP)) ** 2 / counts.max()  # points² per sample
    for band, ax in zip(bands, axes, strict=True):
        _band(ax, counts, band, scale)
        for axis, inches in ((ax.xaxis, NUMBER_SIZE["x"]), (ax.yaxis, NUMBER_SIZE["y"])):
            axis.set_major_locator(MultipleLocator(_tick_step(inches / cell)))
    rest = f" (the first {shown:,} of {len(counts):,})" if shown < len(counts) else ""
    axes[-1].set_xlabel(f"client{rest}", color=TEXT)
    _legend(made, axes[0], counts, scale)
    if path is not None:
        made.savefig(path, dpi=160, format=Path(path).suffix[1:] or "png")
    return made


def _bands(clients: int, classes: int) -> list[range]:
    """The clients of each band, `BAND` of them; as many bands as `ROWS` allows."""
    count = min(-(-clients // BAND), max(1, ROWS // classes))
    return [range(a, min(a + BAND, clients)) for a in range(0, count * BAND, BAND)]


def _band(ax: Axes, counts: np.ndarray, band: range, scale: float) -> None:
    part = counts[band.start : band.stop]
    client, label = np.nonzero(part)
    sizes = scale * part[client, label]
    _dots(ax, band.start + client, label, sizes)
    wide = max(len(band), min(BAND, len(counts)))  # the last band keeps the others' cells
    ax.set_xlim(band.start - 0.8, band.start + wide - 0.2)
    ax.set_ylim(-0.8, counts.shape[1] - 0.2)
    ax.set_aspect("equal")
    ax.set_ylabel("class", color=TEXT)
    plain_axes(ax)


def _dots(ax: Axes, x: ArrayLike, y: ArrayLike, sizes: ArrayLike, label: str | None = None) -> None:
    # A thin edge keeps a single sample visible where others have thousands.
    ax.scatter(x, y, s=sizes, color=COLOURS[0], alpha=0.75, linewidths=0.4, label=label)


def _tick_step(least: float) -> int:
    """The first of 1, 2, 5, 10, ... that is not below `least`."""
    return next(number for number in _rounds(9) if number >= least)


def _rounds(digits: int) -> list[int]:
    return [m * 10**e for e in range(digits) for m in (1, 2, 5)]


def _legend(made: Figure, ax: Axes, counts: np.ndarray, scale: float) -> None:
    """Dots of three round numbers of samples, the largest near the largest count."""
    numbers = _numbers(int(counts.max()))
    for number in numbers:
        _dots(ax, [], [], scale * number, f"{number:,}")
    made.legend(
        loc="outside lower right",
        title="samples",
        ncols=3,
        frameon=False,
        labelcolor=TEXT,
        handleheight=max(1.0, (scale * numbers[-1]) ** 0.5 / 10),  # in letters of 10 points
    )


def _numbers(largest: int) -> list[int]:
    """At most three of 1, 2, 5, 10, 20, ... up to `largest`, some steps apart."""
    fitting = [number for number in _rounds(len(str(largest))) if number <= largest]
    return fitting[::-2][:3][::-1]
