"""Figures of what commands have measured of finished models and left in run folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..explain.class_accuracy import NAME as CLASSES
from ..explain.class_accuracy import of_rows as classes_of
from ..landscape import panels as landscapes
from ..metrics.agreement import agreement_rows as agreements
from ..metrics.hessian import spectrum as hessians
from ..metrics.sharpness import sharpness_rows as sharpnesses
from ..runs import measured_rows
from . import (
    agreement_figures,
    explain_figures,
    hessian_figures,
    landscape_curves,
    landscape_figures,
    sharpness_figures,
)
from .run_figures import Drawn, Groups


def _landscape(folder: Path, number: str) -> Iterator[Drawn]:
    """Of `fedfast landscape`."""
    found = landscapes.of_rows(measured_rows.read(folder, landscapes.NAME))
    for stem, panels in landscapes.by_slice(found).items():
        slices, unit = panels[0].slice, panels[0].unit
        if len(panels[0].axes) == 2:
            text = f"Loss of models on a plane of weights ({slices}), on shared levels."
            figure = landscape_figures.contours(panels)
            yield Drawn(f"{stem}{number}", "Landscapes", f"{text} {folder.name}.", figure)
        text = f"Loss and accuracy of models along the first direction ({slices}; unit: {unit})."
        figure = landscape_curves.curves(panels)
        yield Drawn(f"{stem}-curves{number}", "Landscapes", f"{text} {folder.name}.", figure)


def _hessian(folder: Path, number: str) -> Iterator[Drawn]:
    """Of `fedfast hessian`."""
    texts = {
        "hessian": "Largest eigenvalues of the Hessian of the mean loss.",
        "hessian-density": "Densities of the eigenvalues of the global models' Hessians.",
    }
    found = hessians.of_rows(measured_rows.read(folder, hessians.NAME))
    for name, figure in (hessian_figures.figures(found) if found else {}).items():
        yield Drawn(f"{name}{number}", "Sharpness", f"{texts[name]} {folder.name}.", figure)


def _agreement(folder: Path, number: str) -> Iterator[Drawn]:
    """Of `fedfast agreement`."""
    found = agreements.of_rows(measured_rows.read(folder, agreements.NAME))
    if found:
        text = (
            "Cosines between the updates that clients would send in the round after the last, and "
            f"with their mean. {folder.name}."
        )
        figure = agreement_figures.matrices(found)
        yield Drawn(f"agreement{number}", "Agreement", text, figure)
    for i, one in enumerate(found):
        text = (
            "Pairs of clients whose updates have a negative inner product, and what harmonization "
            f"of whole models or of each tensor leaves of them. {one.label}, {folder.name}."
        )
        name = f"agreement-tensors{number}" + (f"-{i + 1}" if i else "")
        yield Drawn(name, "Agreement", text, agreement_figures.tensors(one))


def _classes(folder: Path, number: str) -> Iterator[Drawn]:
    """Of `fedfast explain`."""
    rows = measured_rows.read(folder, CLASSES)
    for label, found in classes_of(rows).items():
        text = f"Accuracy on each class of the test set, {label}. {folder.name}."
        figure = explain_figures.classes(found, label)
        yield Drawn(f"classes-{label}{number}", "Classes", text, figure)


def _sharpness(folder: Path, number: str) -> Iterator[Drawn]:
    """Of `fedfast sharpness`."""
    found = sharpnesses.of_rows(measured_rows.read(folder, sharpnesses.NAME))
    if found:
        text = (
            "How far the loss rises where one tensor alone is perturbed, and how far clients' "
            f"training moves it (FedFSA's score). Means over clients. {folder.name}."
        )
        yield Drawn(f"sharpness{number}", "Sharpness", text, sharpness_figures.layers(found))


# (a run's folder, what tells its files from another run's) -> figures of what is there
FIGURES: list[Callable[[Path, str], Iterator[Drawn]]] = [
    _landscape,
    _hessian,
    _agreement,
    _classes,
    _sharpness,
]


def figures(groups: Groups) -> Iterator[Drawn]:
    """Of all runs in whose folders something was measured."""
    folders = list(dict.fromkeys(run.folder for runs in groups.values() for run in runs))
    for i, folder in enumerate(folders):
        number = f"-{i + 1}" if len(folders) > 1 else ""
        for found in FIGURES:
            yield from found(folder, number)
