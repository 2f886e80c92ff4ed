"""`stats` in Triton: sums block by block, then each segment's blocks in their order."""

from __future__ import annotations

from torch import Tensor

from ..segments import Segments, blocks
from .common import jit, launch, piece, strided, tl
from .sums import slots

BLOCK, WARPS = 1024, 4


def stats(
    x: Tensor,
    y: Tensor | None,
    x_ref: Tensor | None,
    y_ref: Tensor | None,
    segments: Segments,
    out: Tensor,
) -> Tensor:
    clients, size = x.shape
    cut = blocks(segments, size, BLOCK, x.device)
    partial = slots(x, clients, cut.count, 8)
    operands = (*strided(x), *strided(y), *strided(x_ref), *strided(y_ref))
    given = dict(Y=y is not None, X_REF=x_ref is not None, Y_REF=y_ref is not None)
    launch(
        _block_sums,
        clients * cut.count,
        x,
        *operands,
        *(cut.table, clients, size, cut.count, partial),
        **given,
        ALIGNED=cut.aligned,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    launch(
        _layer_sums,
        clients * segments.count,
        x,
        *(partial, cut.first, clients, cut.count, segments.count, out),
        num_warps=1,
    )
    return out


@jit(do_not_specialize=["clients", "count"])
def _block_sums(
    x: tl.tensor,  # [K, S]
    x_stride: tl.tensor,
    y: tl.tensor,  # [K, S]
    y_stride: tl.tensor,
    x_ref: tl.tensor,  # [K, S]
    x_ref_stride: tl.tensor,
    y_ref: tl.tensor,  # [K, S]
    y_ref_stride: tl.tensor,
    table: tl.tensor,  # [count, 5]
    clients: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    partial: tl.tensor,  # [K, count, 8], five used
    Y: tl.constexpr,
    X_REF: tl.constexpr,
    Y_REF: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The five sums over one block; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, _, _ = piece(table, block, size, BLOCK, True, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    mask = cols < edge
    a = tl.load(x + k * x_stride + cols, mask, other=0.0).to(tl.float64)
    if X_REF:
        a -= tl.load(x_ref + k * x_ref_stride + cols, mask, other=0.0).to(tl.float64)
    a = tl.where(cols < stop, a, 0.0)
    finite = tl.abs(a) < float("inf")
    slot = partial + (k * count + block) * 8
    tl.store(slot, tl.sum(a * a, axis=0))
    if Y:
        b = tl.load(y + k * y_stride + cols, mask, other=0.0).to(tl.float64)
        if Y_REF:
            b -= tl.load(y_ref + k * y_ref_stride + cols, mask, other=0.0).to(tl.float64)
        b = tl.where(cols < stop, b, 0.0)
        finite &= tl.abs(b) < float("inf")
        tl.store(slot + 1, tl.sum(a * b, axis=0))
        tl.store(slot + 2, tl.sum(b * b, axis=0))
        tl.store(slot + 3, tl.sum(tl.abs(a * b), axis=0))
    else:
        for column in tl.static_range(1, 4):
            tl.store(slot + column, tl.zeros((), tl.float64))
    tl.store(slot + 4, tl.sum(tl.where(finite, 0, 1), axis=0).to(tl.float64))


@jit(do_not_specialize=["clients", "count", "layers"])
def _layer_sums(
    partial: tl.tensor,  # [K, count, 8]
    first: tl.tensor,  # [L + 1]
    clients: tl.tensor,
    count: tl.tensor,
    layers: tl.tensor,
    out: tl.tensor,  # [K, L, 5]
) -> None:
    """Adds a segment's blocks in order; one program per client and segment."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    layer = tl.program_id(0) // clients
    begin = tl.load(first + layer)
    end = tl.load(first + layer + 1)
    lanes = tl.arange(0, 32)[:, None]
    columns = tl.arange(0, 8)[None, :]
    sums = tl.zeros((32, 8), tl.float64)
    for start in range(begin, end, 32):
        here = start + lanes
        mask = (here < end) & (columns < 5)
        sums += tl.load(partial + (k * count + here) * 8 + columns, mask, other=0.0)
    result = tl.sum(sums, axis=0)
    column = tl.arange(0, 8)
    tl.store(out + (k * layers + layer) * 5 + column, result, column < 5)
