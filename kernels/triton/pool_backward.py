"""`pool_backward` and `adaptive_avg_backward` in Triton.

An element adds the windows that hold it, from the first to the last, so that no two programs write
one place.
"""

from __future__ import annotations

from torch import Tensor

from ..geometry import Geometry, Pair
from .common import jit, launch, tl
from .pool import BLOCK, WARPS
from .pool_windows import Side, extent, most, place, sides_of, windows


def pool_backward(
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_include_pad: bool,
    dx: Tensor,
    dout: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """`pool_backward` in Triton."""
    sides = sides_of(dx, dout, kernel, geometry)
    holding = tuple(min(-(-taps // step), n) for _, n, taps, step, _ in sides)
    return _gather(dout, argmax, dx, sides, holding, count_include_pad)


def adaptive_avg_backward(dout: Tensor, dx: Tensor) -> Tensor:
    """`adaptive_avg_backward` in Triton."""
    sides = sides_of(dx, dout, (0, 0), Geometry((1, 1), (0, 0)))
    holding = tuple(most(results, image) for image, results, *_ in sides)
    return _gather(dout, None, dx, sides, holding, False)


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
def _collect(
    dout: tl.tensor,  # [K, B, C, OH, OW]
    dout_stride: tl.tensor,
    dout_size: tl.tensor,  # B C OH OW
    argmax: tl.tensor,  # [K, B, C, OH, OW] int32; None: means
    dx: tl.tensor,  # [K, B, C, H, W]
    dx_stride: tl.tensor,
    clients: tl.tensor,
    size: tl.tensor,  # B C H W
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    HOLDING: tl.constexpr,  # windows that hold an element, at most
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Each element's part of every window that holds it."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, col = place(cols, DOWN[0], ACROSS[0])
    above, below = windows(row, DOWN)
    before, behind = windows(col, ACROSS)
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
            elements = extent(y, DOWN, PADDED) * extent(z, ACROSS, PADDED)
            share = tl.load(dout + k * dout_stride + at, mask, other=0.0)
            total += tl.where(mask, share / elements.to(share.dtype), 0.0)
    tl.store(dx + k * dx_stride + cols, total, cols < size)
