"""A matplotlib figure that notebooks show, without pyplot, global state or a window."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SCREEN = 200  # dots per inch in a notebook


class InlineFigure(Figure):
    """As the last value of a cell it is displayed; `Figure` alone needs `%matplotlib inline`."""

    @classmethod
    def of(cls, size: tuple[float, float]) -> InlineFigure:
        """An empty one of so many inches."""
        made = cls(figsize=size, layout="constrained", facecolor="white")
        FigureCanvasAgg(made)
        made.get_layout_engine().set(w_pad=0.06)  # type: ignore[union-attr, call-arg]
        return made

    def _repr_png_(self) -> bytes:
        """What IPython asks objects for."""
        buffer = io.BytesIO()
        self.savefig(buffer, dpi=SCREEN, format="png")
        return buffer.getvalue()
