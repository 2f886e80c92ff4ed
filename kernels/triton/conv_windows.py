"""What the kernels of a pooled convolution share: places window by window, maxima, and back.

Elements of one window are neighbours in a tile, so that a program owns whole windows: a tile is
halved, each element against its neighbour, until one of a window is left.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..geometry import Pair
from .common import jit, tl


class Pooled(NamedTuple):
    """Windows of `sides` over planes, `tap` `[K, B, C, PH, PW]` uint8 of their largest elements."""

    tap: Tensor
    sides: Pair

    @property
    def steps(self) -> int:
        """How often a tile is halved: elements of a window take the next power of two."""
        return (self.sides[0] * self.sides[1] - 1).bit_length()

    @property
    def windows(self) -> int:
        """Of a plane."""
        return self.tap.shape[3] * self.tap.shape[4]


@jit
def in_windows(
    p: tl.tensor, columns: tl.tensor, SIDES: tl.constexpr, STEPS: tl.constexpr
) -> tuple[tl.tensor, ...]:
    """(window of all, row and column in its plane, whether it is one) of a tile's elements p.

    columns: windows across a plane; the caller takes whole planes off the window's rows.
    """
    window = p >> STEPS
    element = p % (1 << STEPS)
    down = window // columns * SIDES[0] + element // SIDES[1]
    across = window % columns * SIDES[1] + element % SIDES[1]
    return down, across, element < SIDES[0] * SIDES[1]


@jit
def largest(values: tl.tensor, held: tl.tensor, STEPS: tl.constexpr) -> tuple[tl.tensor, ...]:
    """(maxima, taps) of tiles [M, P], windows of 2 ** STEPS neighbours; elements not held lose.

    Of equals the first, of NaNs the last, as in torch.
    """
    rows: tl.constexpr = values.shape[0]
    size: tl.constexpr = values.shape[1]
    values = tl.where(held, values, -float("inf"))
    taps = tl.broadcast_to((tl.arange(0, size) % (1 << STEPS))[None, :], (rows, size))
    for step in tl.static_range(STEPS):
        left, right = tl.split(tl.reshape(values, (rows, size >> (step + 1), 2)))
        first, second = tl.split(tl.reshape(taps, (rows, size >> (step + 1), 2)))
        wins = (right > left) | (right != right)
        values = tl.where(wins, right, left)
        taps = tl.where(wins, second, first)
    return values, taps


@jit
def put_back(
    maxima: tl.tensor,
    tap: tl.tensor,
    plane: tl.tensor,
    y: tl.tensor,
    x: tl.tensor,
    sides: tl.tuple,
    mask: tl.tensor,
    SIDES: tl.constexpr,
) -> tl.tensor:
    """Elements (y, x) of planes: a window's number at its maximum, 0 elsewhere.

    maxima, tap: pointers to the first window of the client; plane: offsets of planes; sides:
    windows down and across a plane
    """
    row = y // SIDES[0]
    column = x // SIDES[1]
    mask &= (row < sides[0]) & (column < sides[1])
    at = plane + row * sides[1] + column
    own = y % SIDES[0] * SIDES[1] + x % SIDES[1]
    kept = tl.load(tap + at, mask, other=255).to(tl.int32) == own
    return tl.load(maxima + at, mask & kept, other=0.0)
