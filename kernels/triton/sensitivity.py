"""`sensitivity` in Triton: extremes and sums block by block, then each segment's in their order."""

from __future__ import annotations

from torch import Tensor

from ..segments import Segments, blocks
from .common import jit, launch, piece, strided, tl
from .sums import slots

BLOCK, WARPS = 1024, 4


def sensitivity(x: Tensor, y: Tensor, segments: Segments, normalize: bool, out: Tensor) -> Tensor:
    clients, size = x.shape
    cut = blocks(segments, size, BLOCK, x.device)
    layers, count = segments.count, cut.count
    operands = (*strided(x), *strided(y), cut.table, clients, size, count)
    known = dict(ALIGNED=cut.aligned, BLOCK=BLOCK, num_warps=WARPS)
    ends = None
    if normalize:
        partial, ends = slots(x, clients, count, 4), slots(x, clients, layers, 4)
        launch(_block_extents, clients * count, x, *operands, partial, **known)
        found = (partial, cut.first, clients, count, layers, ends)
        launch(_layer_extents, clients * layers, x, *found, num_warps=1)
    sums = slots(x, clients, count)
    launch(
        _block_changes,
        clients * count,
        x,
        *(*operands, ends, layers, sums),
        NORMALIZE=normalize,
        **known,
    )
    means = (sums, cut.first, segments.length, clients, count, layers, out)
    launch(_layer_means, clients * layers, x, *means, num_warps=1)
    return out


@jit
def _extremes(v: tl.tensor, inside: tl.tensor) -> tuple[tl.tensor, ...]:
    """(smallest, largest) of the elements inside, in float64."""
    low = tl.min(tl.where(inside, v, float("inf")), axis=0)
    high = tl.max(tl.where(inside, v, float("-inf")), axis=0)
    return low.to(tl.float64), high.to(tl.float64)


@jit(do_not_specialize=["clients", "count"])
def _block_extents(
    x: tl.tensor,  # [K, S]
    x_stride: tl.tensor,
    y: tl.tensor,  # [K, S]
    y_stride: tl.tensor,
    table: tl.tensor,  # [count, 5]
    clients: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    partial: tl.tensor,  # [K, count, 4]: extremes of x, then of y
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The extremes of one block; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, _, _ = piece(table, block, size, BLOCK, True, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    mask = cols < edge
    a, b = _extremes(tl.load(x + k * x_stride + cols, mask, other=0.0), cols < stop)
    c, d = _extremes(tl.load(y + k * y_stride + cols, mask, other=0.0), cols < stop)
    slot = partial + (k * count + block) * 4
    tl.store(slot, a)
    tl.store(slot + 1, b)
    tl.store(slot + 2, c)
    tl.store(slot + 3, d)


@jit(do_not_specialize=["clients", "count", "layers"])
def _layer_extents(
    partial: tl.tensor,  # [K, count, 4]
    first: tl.tensor,  # [L + 1]
    clients: tl.tensor,
    count: tl.tensor,
    layers: tl.tensor,
    ends: tl.tensor,  # [K, L, 4]
) -> None:
    """The extremes of a segment from its blocks'; one program per client and segment."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    layer = tl.program_id(0) // clients
    end = tl.load(first + layer + 1)
    columns = tl.arange(0, 4)[None, :]
    sign = tl.where(columns % 2 == 0, 1.0, -1.0)  # the largest is minus the smallest of minus
    least = tl.full((32, 4), float("inf"), tl.float64)
    for start in range(tl.load(first + layer), end, 32):
        here = start + tl.arange(0, 32)[:, None]
        mask = (here < end) & (columns < 4)
        value = tl.load(partial + (k * count + here) * 4 + columns, mask, other=0.0)
        least = tl.minimum(least, tl.where(mask, sign * value, float("inf")))
    column = tl.arange(0, 4)
    result = tl.where(column % 2 == 0, 1.0, -1.0) * tl.min(least, axis=0)
    tl.store(ends + (k * layers + layer) * 4 + column, result)


@jit
def _unit(v: tl.tensor, ends: tl.tensor) -> tl.tensor:
    """(v - low) / (high - low)."""
    low = tl.load(ends)
    return (v - low) / (tl.load(ends + 1) - low)


@jit(do_not_specialize=["clients", "count", "layers"])
def _block_changes(
    x: tl.tensor,  # [K, S]
    x_stride: tl.tensor,
    y: tl.tensor,  # [K, S]
    y_stride: tl.tensor,
    table: tl.tensor,  # [count, 5]
    clients: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    ends: tl.tensor,  # [K, L, 4] when NORMALIZE
    layers: tl.tensor,
    sums: tl.tensor,  # [K, count]
    NORMALIZE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The sum of one block's squared changes; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, layer, _ = piece(table, block, size, BLOCK, True, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    mask = cols < edge
    a = tl.load(x + k * x_stride + cols, mask, other=0.0).to(tl.float64)
    b = tl.load(y + k * y_stride + cols, mask, other=0.0).to(tl.float64)
    if NORMALIZE:
        place = ends + (k * layers + layer) * 4
        a = _unit(a, place)
        b = _unit(b, place + 2)
    change = tl.where(cols < stop, a - b, 0.0)
    tl.store(sums + k * count + block, tl.sum(change * change, axis=0))


@jit(do_not_specialize=["clients", "count", "layers"])
def _layer_means(
    sums: tl.tensor,  # [K, count]
    first: tl.tensor,  # [L + 1]
    length: tl.tensor,  # [L]
    clients: tl.tensor,
    count: tl.tensor,
    layers: tl.tensor,
    out: tl.tensor,  # [K, L]
) -> None:
    """A segment's mean from its blocks' sums, in order; one program per client and segment."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    layer = tl.program_id(0) // clients
    end = tl.load(first + layer + 1)
    total = tl.zeros((128,), tl.float64)
    for start in range(tl.load(first + layer), end, 128):
        here = start + tl.arange(0, 128)
        total += tl.load(sums + k * count + here, here < end, other=0.0)
    mean = tl.sum(total, axis=0) / tl.load(length + layer)
    mean = tl.where(tl.abs(mean) < float("inf"), mean, float("nan"))
    tl.store(out + k * layers + layer, mean)
