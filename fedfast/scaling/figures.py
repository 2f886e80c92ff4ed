"""Figures of a study, log-log, a column wide; slopes by least squares of the logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..report.style import (
    COLUMN,
    FAINT,
    SMALL,
    TEXT,
    figure_of,
    legend_below,
    line_style,
    plain_axes,
    save,
)
from .features import PHASE_NAMES
from .results import Result

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SECONDS, COHORT = "seconds of a round", "clients in a round"
HEIGHT = 2.3  # inches of the axes
TOLERANCE = 0.15  # the band around what was measured
Series = Mapping[str, Sequence[tuple[float, float]]]  # label -> (x, y)


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """The figures that the study's rows allow."""
    done = [one for one in results if one.found is not None]
    grid = [one for one in done if not one.row.held_out]
    made = [
        _lines(_by_cohort(grid, _seconds), folder / "cohort.png", COHORT, SECONDS),
        _lines(_by_cohort(grid, _throughput), folder / "throughput.png", COHORT, "clients/s"),
        _lines(_by_clients(grid, _seconds), folder / "clients.png", "clients", SECONDS),
        _lines(_by_clients(grid, _memory), folder / "memory.png", "clients", "resident bytes"),
        *(
            _lines(series, folder / f"phases-{name}.png", COHORT, SECONDS)
            for name, series in _of_phases(grid).items()
        ),
        _agreement(done, folder / "model.png"),
    ]
    return [path for path in made if path is not None]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent p of y = c x^p, least squares of the logarithms."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def _seconds(one: Result) -> float:
    assert one.found is not None
    return one.found.seconds


def _throughput(one: Result) -> float:
    return one.row.cohort / _seconds(one)


def _memory(one: Result) -> float:
    assert one.found is not None
    return float(one.found.host)


def _by_cohort(grid: Sequence[Result], value: Callable[[Result], float]) -> Series:
    """At the largest population of each algorithm and number of ranks."""
    return {
        f"{label}, of {largest:,} clients": [
            (one.row.cohort, value(one)) for one in rows if one.row.clients == largest
        ]
        for label, rows in _groups(grid).items()
        for largest in [max(one.row.clients for one in rows)]
    }


def _by_clients(grid: Sequence[Result], value: Callable[[Result], float]) -> Series:
    """At the cohort that was measured in most populations, the largest of these."""
    found = {}
    for label, rows in _groups(grid).items():
        cohorts = [one.row.cohort for one in rows]
        most = max(cohorts, key=lambda c: (cohorts.count(c), c))
        points = [(one.row.clients, value(one)) for one in rows if one.row.cohort == most]
        found[f"{label}, {most:,} a round"] = points
    return found


def _of_phases(grid: Sequence[Result]) -> dict[str, Series]:
    """algorithm -> phase -> its seconds at the largest population, on one rank."""
    return {
        label: {
            name.replace("_", "/"): [
                (one.row.cohort, one.found.phases[name])
                for one in rows
                if one.row.clients == largest and one.found and one.found.phases[name] > 1e-6
            ]
            for name in PHASE_NAMES
        }
        for label, rows in _groups([one for one in grid if one.row.ranks == 1]).items()
        for largest in [max(one.row.clients for one in rows)]
    }


def _groups(grid: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for one in grid:
        ranks = f", {one.row.ranks} ranks" if one.row.ranks > 1 else ""
        found.setdefault(f"{one.row.algorithm}{ranks}", []).append(one)
    return found


def _lines(series: Series, path: Path, across: str, up: str) -> Path | None:
    """A line for each series of two points or more, its slope in the legend."""
    drawn = {label: sorted(points) for label, points in series.items() if len(points) > 1}
    if not drawn:
        return None
    figure = figure_of((COLUMN, HEIGHT))
    ax = figure.subplots()
    handles: list[Artist] = []
    labels = []
    for i, (label, points) in enumerate(drawn.items()):
        style = line_style(i)
        (drawn_line,) = ax.plot(*zip(*points, strict=True), color=style.colour, linewidth=1.2)
        drawn_line.set(linestyle=style.dash, marker=style.marker, markersize=3)
        handles.append(drawn_line)
        labels.append(f"{label}: slope {slope(points):.2f}")
    ax.set(xlabel=across, ylabel=up)
    _logarithmic(ax)
    plain_axes(ax)
    legend_below(figure, handles, labels)
    save(figure, path)
    return path


def _logarithmic(ax: Axes) -> None:
    """Both axes, a decade long at least: a flat line is to look flat, and noise small."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    ax.set(xscale="log", yscale="log")
    for side in "xy":
        low, high = getattr(ax, f"get_{side}lim")()
        room = 10 ** max(0.0, (1.02 - math.log10(high / low)) / 2)
        getattr(ax, f"set_{side}lim")(low / room, high * room)
        axis = getattr(ax, f"{side}axis")
        axis.set_major_locator(LogLocator(numticks=7))
        # Between powers of ten where fewer than two of them are in sight.
        few = math.floor(math.log10(high * room)) - math.ceil(math.log10(low / room)) < 1
        some = LogFormatterSciNotation(minor_thresholds=(2, 0.4))
        axis.set_minor_formatter(some if few else NullFormatter())


def _agreement(done: Sequence[Result], path: Path) -> Path | None:
    """Predicted against measured rounds, rows that the model was fitted to and held-out ones."""
    known = [one for one in done if not math.isnan(one.predicted)]
    if not known:
        return None
    figure = figure_of((COLUMN, HEIGHT + 0.4))
    ax = figure.subplots()
    ends = np.array([f(_seconds(one) for one in known) for f in (min, max)]) * [0.7, 1.4]
    ax.fill_between(ends, ends * (1 - TOLERANCE), ends * (1 + TOLERANCE), color=FAINT, alpha=0.3)
    ax.plot(ends, ends, color=TEXT, linewidth=0.8)
    handles: list[Artist] = []
    labels = []
    for i, (what, held) in enumerate({"fitted to": False, "held out": True}.items()):
        points = [(_seconds(one), one.predicted) for one in known if one.row.held_out == held]
        if not points:
            continue
        worst = max(abs(y / x - 1) for x, y in points)
        style = line_style(i)
        (marks,) = ax.plot(*zip(*points, strict=True), linestyle="none", color=style.colour)
        marks.set(marker=style.marker, markersize=4)
        handles.append(marks)
        labels.append(f"{len(points)} rows {what}, at most {worst:.0%} off")
    ax.set(xlabel="measured seconds of a round", ylabel="predicted")
    _logarithmic(ax)
    plain_axes(ax, SMALL)
    legend_below(figure, handles, labels)
    save(figure, path)
    return path
