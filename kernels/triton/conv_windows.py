"""What a pooled convolution needs beside a convolution: places window by window, maxima, and back.

Elements of one window are neighbours in a tile, so that a program owns whole windows: a tile is
halved, each element against its neighbour, until one of a window is left.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..geometry import Pair
from .common import jit, launch, require, tl
from .pool_windows import place

BLOCK, WARPS = 1024, 4  # elements of a program that puts back


class Pooled(NamedTuple):
    """Windows of `sides` over planes, `tap` `[K, B, C, PH, PW]` uint8 of their largest elements."""

    tap: Tensor
    planes: Pair
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
    p: tl.tensor, columns: tl.constexpr, SIDES: tl.constexpr, STEPS: tl.constexpr
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


def put_back(maxima: Tensor, pooled: Pooled) -> Tensor:
    """`[K, B, C, H, W]`: each window's number of `maxima` at its largest element, 0 elsewhere."""
    out = maxima.new_empty(*maxima.shape[:3], *pooled.planes)
    require(out)  # it has more elements than anything that was given
    size = out[0].numel()
    launch(
        _put_back,
        len(out) * -(-size // BLOCK),
        out,
        *(maxima, maxima.stride(0), pooled.tap, maxima[0].numel(), out, len(out), size),
        PLANES=pooled.planes,
        SIDES=pooled.sides,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return out


@jit(do_not_specialize=["clients"])
def _put_back(
    maxima: tl.tensor,  # [K, B, C, PH, PW]
    maxima_stride: tl.tensor,
    tap: tl.tensor,  # [K, B, C, PH, PW] uint8
    taps: tl.tensor,  # B C PH PW
    out: tl.tensor,  # [K, B, C, H, W]
    clients: tl.tensor,
    size: tl.tensor,  # B C H W
    PLANES: tl.constexpr,
    SIDES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """A program writes BLOCK elements of one client's planes."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    at = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    down: tl.constexpr = PLANES[0] // SIDES[0]
    across: tl.constexpr = PLANES[1] // SIDES[1]
    plane, y, x = place(at, PLANES[0], PLANES[1])
    row = y // SIDES[0]
    column = x // SIDES[1]
    window = (plane * down + row) * across + column
    pooled = (at < size) & (row < down) & (column < across)
    own = y % SIDES[0] * SIDES[1] + x % SIDES[1]
    kept = tl.load(tap + k * taps + window, pooled, other=255).to(tl.int32) == own
    values = tl.load(maxima + k * maxima_stride + window, pooled & kept, other=0.0)
    tl.store(out + k * size + at, values, at < size)
