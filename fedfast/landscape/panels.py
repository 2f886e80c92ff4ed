"""`Panel`: a surface as figures and `landscape.csv` have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .surface import Surface

NAME = "landscape.csv"
STEM = "landscape"
RANDOM = "random plane"  # the slice whose figures have the plain name
HEAD = ("label", "slice", "model", "data")  # what tells one panel from another
Row = Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Panel:
    """One slice of one model, on some samples.

    label   of the run
    slice   which line or plane: "random plane", "random line, seed 1", "plane global,3,7"
    model   whose surroundings these are: "global model", "client 3", "global, 3, 7"
    data    what the loss is taken of: "test set", "own samples"
    unit    of the coordinates
    axes    coordinates along each dimension, `[G]` each
    loss, accuracy  `[G]` or `[G, G]`, the first index along the first axis
    marks   name -> coordinates of models
    """

    label: str
    slice: str
    model: str
    data: str
    unit: str
    axes: tuple[np.ndarray, ...]
    loss: np.ndarray
    accuracy: np.ndarray
    marks: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, found: Surface, label: str, kind: str, model: str, data: str) -> Panel:
        """Of an evaluated surface."""
        axes = tuple(axis.numpy() for axis in found.axes)
        loss, accuracy = found.loss.numpy(), found.accuracy.numpy()
        unit, marks = found.slice.unit, dict(found.slice.marks)
        return cls(label, kind, model, data, unit, axes, loss, accuracy, marks)

    @property
    def stem(self) -> str:
        """Of the files of its slice's figures: landscape, landscape-plane-global-3-7."""
        if self.slice in (RANDOM, ""):
            return STEM
        return "-".join([STEM, *re.findall("[A-Za-z0-9]+", self.slice.removeprefix("random "))])

    @property
    def middle(self) -> tuple[np.ndarray, np.ndarray]:
        """(loss, accuracy) along the first axis, where the second is nearest to 0."""
        if len(self.axes) == 1:
            return self.loss, self.accuracy
        at = int(np.abs(self.axes[1]).argmin())
        return self.loss[:, at], self.accuracy[:, at]

    def rows(self) -> Iterator[Row]:
        """Rows of `landscape.csv`: one per point, and one per model that is marked."""
        named = self.label, self.slice, self.model, self.data
        head = dict(zip(HEAD, named, strict=True)) | dict(unit=self.unit)
        for at in np.ndindex(self.loss.shape):
            place = [float(axis[i]) for axis, i in zip(self.axes, at, strict=True)]
            figures = dict(loss=float(self.loss[at]), accuracy=float(self.accuracy[at]))
            yield head | _coordinates(place) | figures | dict(mark="")
        for name, spot in self.marks.items():
            yield head | _coordinates(spot) | dict(loss="", accuracy="", mark=name)


def by_slice(panels: Sequence[Panel]) -> dict[str, list[Panel]]:
    """Stem of files -> the panels of one slice, which one figure shows."""
    found: dict[str, list[Panel]] = {}
    for panel in panels:
        found.setdefault(panel.stem, []).append(panel)
    return found


def _coordinates(place: Sequence[float]) -> dict[str, object]:
    return dict(a=place[0], b=place[1] if len(place) > 1 else "")


def of_rows(rows: Sequence[Mapping[str, str]]) -> list[Panel]:
    """The panels that `Panel.rows` wrote, in their order."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        key = tuple(row.get(name, "") for name in (*HEAD, "unit"))
        groups.setdefault(key, []).append(row)
    return [_panel(key, found) for key, found in groups.items()]


def _panel(key: tuple[str, ...], rows: Sequence[Mapping[str, str]]) -> Panel:
    label, kind, model, data, unit = key
    grid = [row for row in rows if not row["mark"]]
    names = [name for name in ("a", "b") if grid[0][name]]
    axes = tuple(np.array(sorted({float(row[name]) for row in grid})) for name in names)
    shape = [len(axis) for axis in axes]
    loss, accuracy = (
        np.array([float(row[name]) for row in grid]).reshape(shape) for name in ("loss", "accuracy")
    )
    marks = {r["mark"]: tuple(float(r[name]) for name in names) for r in rows if r["mark"]}
    return Panel(label, kind, model, data, unit, axes, loss, accuracy, marks)
