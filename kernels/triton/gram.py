"""`gram` in Triton: tiles of pairs over spans of columns, then the spans of a segment in order."""

from __future__ import annotations

from torch import Tensor

from ..segments import Segments, blocks
from .common import jit, launch, piece, strided, tl
from .sums import slots

# Pairs of a tile, columns of a product, slots of a row besides one per segment: none depends on K.
TILE, DEPTH, SPANS, WARPS = 32, 32, 256, 4


def gram(rows: Tensor, base: Tensor | None, segments: Segments, out: Tensor) -> Tensor:
    clients, size = rows.shape
    span = max(1, -(-size // (SPANS * DEPTH))) * DEPTH
    cut = blocks(segments, size, span, rows.device)
    across = -(-clients // TILE)
    tiles = across * (across + 1) // 2
    partial = slots(rows, cut.count, tiles, TILE, TILE)
    launch(
        _tile_products,
        tiles * cut.count,
        rows,
        *(*strided(rows), *strided(base), cut.table, clients, size, span, tiles, partial),
        BASE=base is not None,
        ALIGNED=cut.aligned,
        DEPTH=DEPTH,
        TILE=TILE,
        num_warps=WARPS,
    )
    over = (partial, cut.first, clients, tiles, out)
    launch(_add_spans, tiles * TILE * segments.count, rows, *over, TILE=TILE, num_warps=WARPS)
    return out


@jit
def _place(index: tl.tensor) -> tuple[tl.tensor, ...]:
    """(row, column) of a tile in the lower triangle, counted row by row."""
    row = index * 0
    before = row
    while before + row + 1 <= index:
        row += 1
        before += row
    return row, index - before


@jit
def _updates(
    rows: tl.tensor,
    row_stride: tl.tensor,
    base: tl.tensor,
    base_stride: tl.tensor,
    k: tl.tensor,
    clients: tl.tensor,
    cols: tl.tensor,
    edge: tl.tensor,
    stop: tl.tensor,
    BASE: tl.constexpr,
) -> tl.tensor:
    """rows_k - base_k in float64, zeros from `stop` and K on. k: [TILE, 1] int64, cols: [1, n]."""
    mask = (k < clients) & (cols < edge)
    d = tl.load(rows + k * row_stride + cols, mask, other=0.0).to(tl.float64)
    if BASE:
        d -= tl.load(base + k * base_stride + cols, mask, other=0.0).to(tl.float64)
    return tl.where(cols < stop, d, 0.0)


@jit(do_not_specialize=["clients", "tiles"])
def _tile_products(
    rows: tl.tensor,  # [K, S]
    row_stride: tl.tensor,
    base: tl.tensor,  # [K, S]
    base_stride: tl.tensor,
    table: tl.tensor,  # [count, 5]
    clients: tl.tensor,
    size: tl.tensor,
    span: tl.tensor,
    tiles: tl.tensor,
    partial: tl.tensor,  # [count, tiles, TILE, TILE]
    BASE: tl.constexpr,
    ALIGNED: tl.constexpr,
    DEPTH: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """The pairs of one tile over one span of columns; one program each, tiles fastest."""
    tile = tl.program_id(0) % tiles
    block = tl.program_id(0) // tiles
    start, stop, edge, _, _ = piece(table, block, size, DEPTH, True, ALIGNED)
    row, column = _place(tile)
    lanes = tl.arange(0, TILE).to(tl.int64)[:, None]
    i, j = row * TILE + lanes, column * TILE + lanes
    sums = tl.zeros((TILE, TILE), tl.float64)
    edge = tl.minimum(start + span, edge)
    for here in range(start, edge, DEPTH):
        cols = here + tl.arange(0, DEPTH)[None, :]
        a = _updates(rows, row_stride, base, base_stride, i, clients, cols, edge, stop, BASE)
        b = _updates(rows, row_stride, base, base_stride, j, clients, cols, edge, stop, BASE)
        sums = tl.dot(a, tl.trans(b), sums, out_dtype=tl.float64)
    places = lanes * TILE + tl.arange(0, TILE)[None, :]
    slot = tl.program_id(0) // tiles * tiles + tile
    tl.store(partial + slot.to(tl.int64) * TILE * TILE + places, sums)


@jit(do_not_specialize=["clients", "tiles"])
def _add_spans(
    partial: tl.tensor,  # [count, tiles, TILE, TILE]
    first: tl.tensor,  # [L + 1]
    clients: tl.tensor,
    tiles: tl.tensor,
    out: tl.tensor,  # [L, K, K]
    TILE: tl.constexpr,
) -> None:
    """Adds a segment's spans in order and writes both triangles; a program per row of a tile."""
    index = tl.program_id(0) % (tiles * TILE)
    layer = (tl.program_id(0) // (tiles * TILE)).to(tl.int64)
    row, column = _place(index // TILE)
    end = tl.load(first + layer + 1)
    j = tl.arange(0, TILE)
    sums = tl.zeros((32, TILE), tl.float64)
    for start in range(tl.load(first + layer), end, 32):
        span = start + tl.arange(0, 32).to(tl.int64)[:, None]
        place = (span * tiles * TILE + index) * TILE + j[None, :]
        sums += tl.load(partial + place, span < end, other=0.0)
    result = tl.sum(sums, axis=0)
    i = (row * TILE + index % TILE).to(tl.int64)
    j = column * TILE + j.to(tl.int64)
    mask = j <= tl.where(i < clients, i, -1)
    square = out + layer * clients * clients
    tl.store(square + i * clients + j, result, mask)
    tl.store(square + j * clients + i, result, mask)
