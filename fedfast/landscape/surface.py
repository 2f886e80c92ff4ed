"""`surface`: accuracy and loss on a grid of a slice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .losses import ModelLosses
from .slices import Slice

MARGIN = 0.3  # of the extent of the models, around them


@dataclass(frozen=True, eq=False)
class Surface:
    """Figures on a grid.

    slice     the line or the plane
    axes      coordinates along each dimension, `[G]` each, float64
    accuracy  `[G]` or `[G, G]` float64, the first index along the first axis
    loss      alike, the mean over the samples
    """

    slice: Slice
    axes: tuple[Tensor, ...]
    accuracy: Tensor
    loss: Tensor


def surface(
    of: Slice,
    losses: ModelLosses,
    grid: int = 51,
    reach: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, points: None,
) -> Surface:
    """Evaluate a slice on `grid` points along each axis.

    reach     of random directions: from -reach to reach. Between models: how many times MARGIN of
              their extent lies around them
    progress  told (points done, all points)
    Raises ValueError for fewer than two points or a reach that is not finite and above 0.
    """
    check_grid(grid, reach)
    axes = tuple(torch.linspace(*span, grid, dtype=torch.float64) for span in spans(of, reach))
    at = torch.cartesian_prod(*axes).reshape(-1, of.dimensions)
    rows = of.layout.bank(losses.models, of.origin.device)
    found: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(at), losses.models):
        part = at[start : start + losses.models]
        found.append(losses(of.rows(part, rows[: len(part)])))
        progress(min(start + losses.models, len(at)), len(at))
    accuracy, loss = (
        torch.cat(parts).view([grid] * of.dimensions) for parts in zip(*found, strict=True)
    )
    return Surface(of, axes, accuracy, loss)


def check_grid(grid: int, reach: float) -> None:
    """ValueError for what `surface` does not evaluate."""
    if grid < 2:
        raise ValueError(f"grid: expected 2 or more; got {grid}")
    if not 0 < reach < math.inf:
        raise ValueError(f"reach: expected a finite number > 0; got {reach}")


def spans(of: Slice, reach: float) -> list[tuple[float, float]]:
    """From where to where each axis goes."""
    marks = torch.tensor(list(of.marks.values()), dtype=torch.float64)
    if of.unit == "filter norms":
        return [(-reach, reach)] * of.dimensions
    low, high = marks.amin(0), marks.amax(0)
    room = MARGIN * reach * (high - low)
    return list(zip((low - room).tolist(), (high + room).tolist(), strict=True))
