"""Pooling in Triton: results in blocks, each program one block of one client.

Sizes and windows are constants of the compiled kernel: divisions by them are cheap, and a model
has few.
"""

from __future__ import annotations

from torch import Tensor

from ..geometry import Geometry, Pair
from .common import jit, launch, tl
from .pool_windows import Side, extent, most, place, sides_of, window

BLOCK, LANES, WARPS = 1024, 64, 4  # results of a program, or taps times results; taps of a tile


def pool(
    x: Tensor,
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_include_pad: bool,
    out: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """`pool` in Triton."""
    sides = sides_of(x, out, kernel, geometry)
    if kind == "avg":
        return _means(x, out, sides, count_include_pad)
    size = out[:1].numel()
    launch(
        _largest,
        out.shape[0] * -(-size // BLOCK),
        out,
        *(x, x.stride(0), out, out.stride(0), argmax, out.shape[0], size),
        DOWN=sides[0],
        ACROSS=sides[1],
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return out


def adaptive_avg(x: Tensor, out: Tensor) -> Tensor:
    """`adaptive_avg` in Triton."""
    return _means(x, out, sides_of(x, out, (0, 0), Geometry((1, 1), (0, 0))), False)


def _means(x: Tensor, out: Tensor, sides: tuple[Side, ...], count_padding: bool) -> Tensor:
    taps = tuple(kernel or most(image, results) for image, results, kernel, *_ in sides)
    lanes = min(1 << (taps[0] * taps[1] - 1).bit_length(), LANES)
    size, block = out[:1].numel(), BLOCK // lanes
    launch(
        _mean,
        out.shape[0] * -(-size // block),
        out,
        *(x, x.stride(0), out, out.stride(0), out.shape[0], size),
        DOWN=sides[0],
        ACROSS=sides[1],
        TAPS=taps,
        PADDED=count_padding,
        BLOCK=block,
        LANES=lanes,
        num_warps=WARPS,
    )
    return out


@jit(do_not_specialize=["clients"])
def _largest(
    x: tl.tensor,  # [K, B, C, H, W]
    x_stride: tl.tensor,
    out: tl.tensor,  # [K, B, C, OH, OW]
    out_stride: tl.tensor,
    argmax: tl.tensor,  # [K, B, C, OH, OW] int32
    clients: tl.tensor,
    size: tl.tensor,  # B C OH OW
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """NaN wins, of equals the first; a window of -inf points at its first place in the image."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, col = place(cols, DOWN[1], ACROSS[1])
    top, bottom = window(row, DOWN)
    left, right = window(col, ACROSS)
    image = x + k * x_stride + plane * (DOWN[0] * ACROSS[0])
    best = tl.full((BLOCK,), float("-inf"), x.dtype.element_ty)
    best_at = tl.maximum(top, 0) * ACROSS[0] + tl.maximum(left, 0)
    for tap in range(DOWN[2] * ACROSS[2]):
        y = top + tap // ACROSS[2]
        z = left + tap % ACROSS[2]
        inside = (cols < size) & (y >= 0) & (y < DOWN[0]) & (z >= 0) & (z < ACROSS[0])
        at = y * ACROSS[0] + z
        here = tl.load(image + at, inside, other=float("-inf"))
        wins = (here > best) | (here != here)
        best = tl.where(wins, here, best)
        best_at = tl.where(wins, at, best_at)
    tl.store(out + k * out_stride + cols, best, cols < size)
    if argmax is not None:
        tl.store(argmax + k * size + cols, best_at, cols < size)


@jit(do_not_specialize=["clients"])
def _mean(
    x: tl.tensor,  # [K, B, C, H, W]
    x_stride: tl.tensor,
    out: tl.tensor,  # [K, B, C, OH, OW]
    out_stride: tl.tensor,
    clients: tl.tensor,
    size: tl.tensor,  # B C OH OW
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """A tile of results by taps, so that neighbouring threads read neighbouring elements."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, col = place(cols, DOWN[1], ACROSS[1])
    top, bottom = window(row, DOWN)
    left, right = window(col, ACROSS)
    image = x + k * x_stride + (plane * (DOWN[0] * ACROSS[0]))[:, None]
    total = tl.zeros((BLOCK,), x.dtype.element_ty)
    for first in range(0, TAPS[0] * TAPS[1], LANES):
        tap = (first + tl.arange(0, LANES))[None, :]
        y = top[:, None] + tap // TAPS[1]
        z = left[:, None] + tap % TAPS[1]
        inside = (y >= 0) & (y < tl.minimum(bottom, DOWN[0])[:, None])
        inside = inside & (z >= 0) & (z < tl.minimum(right, ACROSS[0])[:, None])
        mask = inside & (cols < size)[:, None]
        total += tl.sum(tl.load(image + y * ACROSS[0] + z, mask, other=0.0), axis=1)
    elements = extent(row, DOWN, PADDED) * extent(col, ACROSS, PADDED)
    tl.store(out + k * out_stride + cols, total / elements.to(total.dtype), cols < size)
