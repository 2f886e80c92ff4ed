"""How the places of a convolution move over its source, one direction at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ..geometry import Geometry
from .common import jit, tl


class Side(NamedTuple):
    """One direction of a correlation; the kernels know its first nine numbers as constants."""

    extent: int  # of the source
    stride: int  # between places, in the source
    first: int  # place's first tap, in the source
    step: int  # between taps, in the source
    places: int
    out_step: int  # between places, in the result
    out_first: int
    out_extent: int
    taps: int
    tap: int = 0  # the first one
    apart: int = 1  # so many taps lie between two that are used


def forward_sides(
    x: Tensor, weight: Tensor, planes: tuple[int, ...], g: Geometry
) -> tuple[Side, Side]:
    """Vertical and horizontal: every place, every tap; planes: sides of the results."""
    sizes = zip(x.shape[3:], weight.shape[3:], planes, strict=True)
    moves = zip(g.stride, g.padding, g.dilation, strict=True)
    down, across = (
        Side(size, s, -p, d, places, 1, 0, places, taps)
        for (size, taps, places), (s, p, d) in zip(sizes, moves, strict=True)
    )
    return down, across


def turned_sides(size: int, taps: int, out: int, s: int, p: int, d: int) -> list[Side]:
    """One direction of the data gradient: the classes of places modulo the stride s.

    A class whose places no tap reaches is left out.
    """
    sides = []
    for a in range(min(s, size)):
        used = [i for i in range(taps) if (a + p - i * d) % s == 0]
        if not used:
            continue
        apart = used[1] - used[0] if len(used) > 1 else 1
        first, step = (a + p - used[0] * d) // s, -(apart * d // s)
        places = len(range(a, size, s))
        sides.append(Side(out, 1, first, step, places, s, a, size, len(used), used[0], apart))
    return sides


def pointwise(sides: Sequence[Side]) -> bool:
    """Whether every place reads the one pixel it lies on."""
    return all((s.taps, s.stride, s.first, s.places) == (1, 1, 0, s.extent) for s in sides)


def margins(sides: Sequence[Side]) -> bool:
    """Whether some tap of some place lies outside of the source."""
    for side in sides:
        reach = sorted((0, (side.taps - 1) * side.step))
        last = side.first + (side.places - 1) * side.stride
        if side.first + reach[0] < 0 or last + reach[1] >= side.extent:
            return True
    return False


@jit
def side_by_side(base: tl.tensor, offsets: tl.tensor, AXIS: tl.constexpr) -> tl.tensor:
    """`base + offsets`, pointers that neighbouring threads are to use along AXIS.

    A hint to the choice of a layout, which sees no order in places and taps behind divisions. It
    may be wrong, at the end of a line or with a stride: nobody is told of an alignment beyond that
    of an element, and so every access stays one element wide.
    """
    pointers = base + offsets
    if AXIS == 0:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (2, 1)), (4, 4))
    else:
        pointers = tl.multiple_of(tl.max_contiguous(pointers, (1, 2)), (4, 4))
    return pointers


@jit
def unfolded(r: tl.tensor, DOWN: tl.constexpr, ACROSS: tl.constexpr) -> tuple[tl.tensor, ...]:
    """(offset, rows down, columns right) of unfolded row r = (channel, tap)."""
    tap = r % (DOWN[8] * ACROSS[8])
    y = tap // ACROSS[8] * DOWN[3]
    x = tap % ACROSS[8] * ACROSS[3]
    return r // (DOWN[8] * ACROSS[8]) * (DOWN[0] * ACROSS[0]) + y * ACROSS[0] + x, y, x


@jit
def within(
    y: tl.tensor,
    x: tl.tensor,
    tap_y: tl.tensor,
    tap_x: tl.tensor,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
) -> tl.tensor:
    """Whether the taps of pixels (y, x) lie in the image."""
    row = y + tap_y
    column = x + tap_x
    return (row >= 0) & (row < DOWN[0]) & (column >= 0) & (column < ACROSS[0])
