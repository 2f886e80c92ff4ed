"""The second launch of a weight gradient that is summed in parts or tap by tap: into its place."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .conv_taps import WARPS, padded
from .sums import store_squares
from .tiles import fold

ADDED = 512  # elements that a program adds the parts of


def add_parts(
    sums: Tensor,
    to: Tensor,
    base: Tensor,
    alpha: Tensor,
    beta: Tensor,
    partial: tuple[object, ...],
    rows: int,
) -> None:
    """to = `beta base + alpha` the sum of the parts `[K, parts, ...]`, in their order.

    rows  of a group, if the parts are tap by tap
    """
    clients, parts, size = len(to), sums.shape[1], to[0].numel()
    strides = sums.stride(0), to.stride(0), base.stride(0), sums.stride(1)
    taps, channels = to[0, 0, 0].numel(), to.shape[2]
    launch(
        _add_parts,
        clients * -(-size // ADDED),
        to,
        *(sums, to, base, alpha, beta, partial, strides, size),
        (rows, channels, padded(channels)),
        PARTS=parts,
        TAPS=taps if rows else 0,
        BLOCK=ADDED,
        num_warps=WARPS,
    )


@jit
def _add_parts(
    sums: tl.tensor,  # [K, PARTS, size]
    to: tl.tensor,  # [K, size]
    base: tl.tensor,  # the same
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    partial: tl.tuple,  # see `store_squares`
    strides: tl.tuple,  # over K, of sums, to, base; over parts
    size: tl.tensor,
    sizes: tl.tuple,  # rows of a group, channels, those with padding
    PARTS: tl.constexpr,
    TAPS: tl.constexpr,  # if the parts are tap by tap, else 0
    BLOCK: tl.constexpr,
) -> None:
    """A block of `beta base + alpha sum_j sums_j`."""
    blocks = tl.cdiv(size, BLOCK)
    block = tl.program_id(0) % blocks
    k = (tl.program_id(0) // blocks).to(tl.int64)
    cols = block * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    at = cols
    if TAPS > 0:
        rows, channels, width = sizes
        channel = cols // (channels * TAPS)
        line = (channel // rows * TAPS + cols % TAPS) * rows + channel % rows
        at = line * width + cols // TAPS % channels
    own = sums + k * strides[0] + at
    gradient = tl.load(own, mask, other=0.0)
    for j in range(1, PARTS):
        gradient += tl.load(own + j * strides[3], mask, other=0.0)
    here = base + k * strides[2] + cols
    result = fold(gradient, here, mask, tl.load(alpha + k), tl.load(beta + k))
    store_squares(partial, k, block, result, mask)
    tl.store(to + k * strides[1] + cols, result, mask)
