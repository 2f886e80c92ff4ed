"""Where the windows of pooling lie, along one side of an image."""

from __future__ import annotations

from torch import Tensor

from ..geometry import Geometry, Pair
from .common import jit, tl

Side = tuple[int, int, int, int, int]  # image, results, window (0: adaptive), stride, padding


def sides_of(image: Tensor, results: Tensor, kernel: Pair, g: Geometry) -> tuple[Side, ...]:
    sizes = image.shape[3:], results.shape[3:], kernel, g.stride, g.padding
    return tuple(zip(*sizes, strict=True))


def most(size: int, parts: int) -> int:
    """Places of the longest of `parts` nearly equal windows over `size` places."""
    return max(-(-(i + 1) * size // parts) - i * size // parts for i in range(parts))


@jit
def place(cols: tl.tensor, HEIGHT: tl.constexpr, WIDTH: tl.constexpr) -> tuple[tl.tensor, ...]:
    """Elements of a client as (plane, row, column)."""
    return cols // (HEIGHT * WIDTH), cols // WIDTH % HEIGHT, cols % WIDTH


@jit
def window(o: tl.tensor, SIDE: tl.constexpr) -> tuple[tl.tensor, ...]:
    """Where result o's window starts and stops along a side, margins included."""
    if SIDE[2] == 0:
        start = o * SIDE[0] // SIDE[1]
        stop = ((o + 1) * SIDE[0] + SIDE[1] - 1) // SIDE[1]
    else:
        start = o * SIDE[3] - SIDE[4]
        stop = start + SIDE[2]
    return start, stop


@jit
def extent(o: tl.tensor, SIDE: tl.constexpr, PADDED: tl.constexpr) -> tl.tensor:
    """How many places of result o's window count along a side."""
    start, stop = window(o, SIDE)
    if not PADDED:
        start = tl.maximum(start, 0)
        stop = tl.minimum(stop, SIDE[0])
    return stop - start


@jit
def windows(i: tl.tensor, SIDE: tl.constexpr) -> tuple[tl.tensor, ...]:
    """The first and the last result whose window holds place i of a side."""
    if SIDE[2] == 0:
        first = i * SIDE[1] // SIDE[0]
        last = ((i + 1) * SIDE[1] + SIDE[0] - 1) // SIDE[0] - 1
    else:
        first = tl.maximum(i + SIDE[4] - SIDE[2] + SIDE[3], 0) // SIDE[3]
        last = tl.minimum((i + SIDE[4]) // SIDE[3], SIDE[1] - 1)
    return first, last
