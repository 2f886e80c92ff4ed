"""Figures of what commands have measured of finished models and left in run folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..landscape import panels as landscapes
from ..runs import measured_rows
from . import landscape_figures
from .run_figures import Drawn, Groups


def _landscape(folder: Path, number: str) -> Iterator[Drawn]:
    """Of `fedfast landscape`."""
    found = landscapes.of_rows(measured_rows.read(folder, landscapes.NAME))
    planes = [panel for panel in found if len(panel.axes) == 2]
    if planes:
        text = f"Loss of models on planes in the space of weights, on shared levels. {folder.name}."
        figure = landscape_figures.contours(planes)
        yield Drawn(f"landscape{number}", "Landscapes", text, figure)
    for i, unit in enumerate(dict.fromkeys(panel.unit for panel in found)):
        along = [panel for panel in found if panel.unit == unit]
        text = f"Loss and accuracy of models along the first direction ({unit}). {folder.name}."
        name = f"landscape-curves{number}" + (f"-{i + 1}" if i else "")
        yield Drawn(name, "Landscapes", text, landscape_figures.curves(along))


# (a run's folder, what tells its files from another run's) -> figures of what is there
FIGURES: list[Callable[[Path, str], Iterator[Drawn]]] = [_landscape]


def figures(groups: Groups) -> Iterator[Drawn]:
    """Of all runs in whose folders something was measured."""
    folders = list(dict.fromkeys(run.folder for runs in groups.values() for run in runs))
    for i, folder in enumerate(folders):
        number = f"-{i + 1}" if len(folders) > 1 else ""
        for found in FIGURES:
            yield from found(folder, number)
