"""Landscapes as one interactive page: surfaces that turn, plotly within the file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from types import ModuleType

import numpy as np

from ..files import atomic
from ..landscape.panels import Panel
from .landscape_figures import title

HEIGHT = 560  # pixels of a surface
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Loss landscapes</title></head>
<body style="font-family:sans-serif;max-width:900px;margin:auto">
<h1>Loss landscapes</h1>
{parts}
</body></html>
"""


def write(panels: Sequence[Panel], path: Path) -> Path:
    """One surface per panel, all over the same range of losses, in a file that asks for no other.

    Raises ModuleNotFoundError naming the extra where plotly is not installed, ValueError for lines.
    """
    go = plotly()
    if any(len(panel.axes) != 2 for panel in panels):
        raise ValueError("html: expected planes; got a line, whose curves are in the figures")
    limits = _limits(panels)
    parts = "\n".join(
        f"<h2>{escape(title(panel))}</h2>" + _surface(go, panel, limits, first=i == 0)
        for i, panel in enumerate(panels)
    )
    atomic(path, lambda to: to.write_text(PAGE.format(parts=parts), encoding="utf-8"))
    return path


def plotly() -> ModuleType:
    """Its graph objects. Raises ModuleNotFoundError naming the extra."""
    try:
        from plotly import graph_objects
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "html: interactive surfaces need plotly: pip install 'fedfast[landscape]'"
        ) from error
    found: ModuleType = graph_objects
    return found


def _limits(panels: Sequence[Panel]) -> tuple[float, float]:
    known = np.concatenate([panel.loss[np.isfinite(panel.loss)] for panel in panels])
    return float(known.min()), float(known.max())


def _surface(go: ModuleType, panel: Panel, limits: tuple[float, float], first: bool) -> str:
    """The surface as HTML; the first brings plotly along."""
    a, b = panel.axes
    surface = go.Surface(
        x=a,
        y=b,
        z=panel.loss.T,
        colorscale="Cividis",
        cmin=limits[0],
        cmax=limits[1],
        customdata=panel.accuracy.T,
        hovertemplate="(%{x:.3g}, %{y:.3g})<br>loss %{z:.4g}<br>accuracy %{customdata:.1%}",
        colorbar=dict(title=dict(text="loss (nats)", side="right"), len=0.8),
        name="",
    )
    figure = go.Figure(surface)
    scene = dict(
        xaxis_title=f"first ({panel.unit})",
        yaxis_title=f"second ({panel.unit})",
        zaxis=dict(title="loss (nats)", range=limits),
        aspectmode="cube",  # the same scale for all, and nothing is cut off
        camera=dict(eye=dict(x=1.5, y=1.5, z=1.1)),
        annotations=_marks(panel),
    )
    figure.update_layout(height=HEIGHT, margin=dict(l=0, r=0, t=0, b=0), scene=scene)
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=first, config={"displaylogo": False}
    )
    return html


def _marks(panel: Panel) -> list[dict[str, object]]:
    """The models, on the point of the grid nearest to each; no surface hides their names."""
    made: list[dict[str, object]] = []
    for name, place in panel.marks.items():
        at = tuple(int(np.abs(x - p).argmin()) for x, p in zip(panel.axes, place, strict=True))
        where = dict(x=place[0], y=place[1], z=float(panel.loss[at]), ax=0, ay=-40)
        made.append(dict(**where, text=escape(name), bgcolor="white", opacity=0.85))
    return made
