"""Pooling in Triton: results in blocks, each program one block of one client.

Backwards gather: an element adds the windows that hold it, from the first to the last, so that no
two programs write one place. Sizes and windows are constants of the compiled kernel: divisions by
them are cheap, and a model has few.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from torch import Tensor

from ..reference.images import Geometry, Pair
from .common import jit, launch, tl

BLOCK, LANES, WARPS = 1024, 64, 4  # results of a program, or taps times results; taps of a tile
Side = tuple[int, int, int, int, int]  # image, results, window (0: adaptive), stride, padding


def pool(
    x: Tensor,
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_padding: bool,
    out: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """`reference_images.pool` in Triton."""
    sides = _sides(x, out, kernel, geometry)
    if kind == "avg":
        return _means(x, out, sides, count_padding)
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


def pool_backward(
    dout: Tensor,
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_padding: bool,
    dx: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """`reference_images.pool_backward` in Triton."""
    sides = _sides(dx, dout, kernel, geometry)
    holding = tuple(min(-(-taps // step), n) for _, n, taps, step, _ in sides)
    return _gather(dout, argmax, dx, sides, holding, count_padding)


def adaptive_avg(x: Tensor, out: Tensor) -> Tensor:
    """`reference_images.adaptive_avg` in Triton."""
    return _means(x, out, _sides(x, out, (0, 0), Geometry((1, 1), (0, 0))), False)


def adaptive_avg_backward(dout: Tensor, dx: Tensor) -> Tensor:
    """`reference_images.adaptive_avg_backward` in Triton."""
    sides = _sides(dx, dout, (0, 0), Geometry((1, 1), (0, 0)))
    holding = tuple(_most(results, image) for image, results, *_ in sides)
    return _gather(dout, None, dx, sides, holding, False)


def _sides(image: Tensor, results: Tensor, kernel: Pair, g: Geometry) -> tuple[Side, ...]:
    sizes = image.shape[3:], results.shape[3:], kernel, g.stride, g.padding
    return tuple(zip(*sizes, strict=True))


def _most(size: int, parts: int) -> int:
    """Places of the longest of `parts` nearly equal windows over `size` places."""
    return max(-(-(i + 1) * size // parts) - i * size // parts for i in range(parts))


def _means(x: Tensor, out: Tensor, sides: tuple[Side, ...], count_padding: bool) -> Tensor:
    taps = tuple(kernel or _most(image, results) for image, results, kernel, *_ in sides)
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


def _gather(
    dout: Tensor,
    argmax: Tensor | None,
    dx: Tensor,
    sides: tuple[Side, ...],
    holding: tuple[int, ...],
    count_padding: bool,
) -> Tensor:
    size = dx[:1].numel()
    launch(
        _collect,
        dx.shape[0] * -(-size // BLOCK),
        dx,
        *(dout, dout.stride(0), dout[:1].numel(), argmax, dx, dx.stride(0), dx.shape[0], size),
        DOWN=sides[0],
        ACROSS=sides[1],
        HOLDING=holding,
        PADDED=count_padding,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return dx


@jit(do_not_specialize=["clients"])
def _largest(
    x,  # [K, B, C, H, W]
    x_stride,
    out,  # [K, B, C, OH, OW]
    out_stride,
    argmax,  # [K, B, C, OH, OW] int32
    clients,
    size,  # B C OH OW
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """NaN wins, of equals the first; a window of -inf points at its first place in the image."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, col = _place(cols, DOWN[1], ACROSS[1])
    top, bottom = _window(row, DOWN)
    left, right = _window(col, ACROSS)
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
    x,  # [K, B, C, H, W]
    x_stride,
    out,  # [K, B, C, OH, OW]
    out_stride,
    clients,
    size,  # B C OH OW
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
):
    """A tile of results by taps, so that neighbouring threads read neighbouring elements."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, col = _place(cols, DOWN[1], ACROSS[1])
    top, bottom = _window(row, DOWN)
    left, right = _window(col, ACROSS)
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
    elements = _extent(row, DOWN, PADDED) * _extent(col, ACROSS, PADDED)
    tl.store(out + k * out_stride + cols, total / elements.to(total.dtype), cols < size)


@jit(do_not_specialize=["clients"])
def _collect(
    dout,  # [K, B, C, OH, OW]
    dout_stride,
    dout_size,  # B C OH OW
    argmax,  # [K, B, C, OH, OW] int32; None: means
    dx,  # [K, B, C, H, W]
    dx_stride,
    clients,
    size,  # B C H W
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    HOLDING: tl.constexpr,  # windows that hold an element, at most
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each element's part of every window that holds it."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, col = _place(cols, DOWN[0], ACROSS[0])
    above, below = _windows(row, DOWN)
    before, behind = _windows(col, ACROSS)
    base = plane * (DOWN[1] * ACROSS[1])
    total = tl.zeros((BLOCK,), dx.dtype.element_ty)
    for window in range(HOLDING[0] * HOLDING[1]):
        y = above + window // HOLDING[1]
        z = before + window % HOLDING[1]
        mask = (cols < size) & (y <= below) & (z <= behind)
        at = base + y * ACROSS[1] + z
        if argmax is not None:
            mask = mask & (
                tl.load(argmax + k * dout_size + at, mask, other=-1) == row * ACROSS[0] + col
            )
            total += tl.load(dout + k * dout_stride + at, mask, other=0.0)
        else:
            elements = _extent(y, DOWN, PADDED) * _extent(z, ACROSS, PADDED)
            share = tl.load(dout + k * dout_stride + at, mask, other=0.0)
            total += tl.where(mask, share / elements.to(share.dtype), 0.0)
    tl.store(dx + k * dx_stride + cols, total, cols < size)


@jit
def _place(cols, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Elements of a client as (plane, row, column)."""
    return cols // (HEIGHT * WIDTH), cols // WIDTH % HEIGHT, cols % WIDTH


@jit
def _window(o, SIDE: tl.constexpr):
    """Where result o's window starts and stops along a side, margins included."""
    if SIDE[2] == 0:
        start = o * SIDE[0] // SIDE[1]
        stop = ((o + 1) * SIDE[0] + SIDE[1] - 1) // SIDE[1]
    else:
        start = o * SIDE[3] - SIDE[4]
        stop = start + SIDE[2]
    return start, stop


@jit
def _extent(o, SIDE: tl.constexpr, PADDED: tl.constexpr):
    """How many places of result o's window count along a side."""
    start, stop = _window(o, SIDE)
    if not PADDED:
        start = tl.maximum(start, 0)
        stop = tl.minimum(stop, SIDE[0])
    return stop - start


@jit
def _windows(i, SIDE: tl.constexpr):
    """The first and the last result whose window holds place i of a side."""
    if SIDE[2] == 0:
        first = i * SIDE[1] // SIDE[0]
        last = ((i + 1) * SIDE[1] + SIDE[0] - 1) // SIDE[0] - 1
    else:
        first = tl.maximum(i + SIDE[4] - SIDE[2] + SIDE[3], 0) // SIDE[3]
        last = tl.minimum((i + SIDE[4]) // SIDE[3], SIDE[1] - 1)
    return first, last
