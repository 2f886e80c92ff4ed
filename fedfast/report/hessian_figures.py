"""Figures of `fedfast hessian`: largest eigenvalues label by label, densities of eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..metrics.hessian.spectrum import GLOBAL, OWN, TRAIN, Spectrum
from .style import (
    COLOURS,
    COLUMN,
    MARKERS,
    figure_of,
    label_text,
    legend_below,
    line_style,
    logarithmic,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# (whether the global model, data) -> what a legend calls it
KINDS = {
    (True, TRAIN): "global model, training data",
    (False, OWN): "clients' models, own samples",
    (False, TRAIN): "clients' models, training data",
}
DEPTH = 1e-6  # of the highest density, where its axis begins


def figures(found: Sequence[Spectrum]) -> dict[str, Figure]:
    """All that can be drawn, by the names of their files."""
    made = {"hessian": eigenvalues(found)}
    if any(one.density is not None for one in found):
        made["hessian-density"] = density(found)
    return made


def eigenvalues(found: Sequence[Spectrum]) -> Figure:
    """The largest eigenvalue of each model, a line of points for each label."""
    labels = list(dict.fromkeys(one.label for one in found))
    figure = figure_of((COLUMN, 0.75 + 0.3 * len(labels)))
    ax = figure.subplots()
    for i, (kind, text) in enumerate(KINDS.items()):
        own = [one for one in found if (one.model == GLOBAL, one.data) == kind]
        if own:
            # Apart by a quarter of a line each, so that no kind hides another.
            at = [labels.index(one.label) + 0.24 * (i - 1) for one in own]
            values = [one.values[0] for one in own]
            (points,) = ax.plot(values, at, MARKERS[i], color=COLOURS[i], label=text)
            points.set(markersize=4.4, markeredgecolor="white", markeredgewidth=0.4)
    logarithmic(ax, [one.values[0] for one in found])
    ax.set_yticks(range(len(labels)), [label_text(label, 24) for label in labels])
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlabel("largest eigenvalue of the Hessian")
    plain_axes(ax)
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure


def density(found: Sequence[Spectrum]) -> Figure:
    """The density of the eigenvalues of each label's global model, on a logarithmic axis."""
    figure = figure_of((COLUMN, 2.2))
    ax = figure.subplots()
    curves = [(one.label, one.density) for one in found if one.density is not None]
    for i, (label, (grid, values)) in enumerate(curves):
        style = line_style(i)
        ax.plot(grid, values, color=style.colour, linestyle=style.dash, linewidth=1, label=label)
    highest = max(float(values.max()) for _, (_, values) in curves)
    ax.set_yscale("log")
    ax.set_ylim(DEPTH * highest, 2 * highest)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel("density")
    plain_axes(ax)
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure
