"""`gram`: the products of every pair of client updates, in one pass over the bank.

    d_k = rows_k - base                              (base optional)
    out[l, i, j] = sum over segment l of d_i d_j

Cosines, conflicts and projections of updates (gradient harmonization) are then arithmetic on K x K
numbers, and a weighted sum of the rows is all that touches the bank again.

Bytes per element of a client (f = element size): reads f, and f of the base (f / K where it is
shared); writes 8 K^2 per segment. (K + 1) / 2 products per element.
Float32 rows, native: differences and sums of 14 products are float32, all above them float64; an
error is below 1e-6 |d_i| |d_j| whatever the data. Triton and float64 rows: float64 throughout.
Symmetric to the bit. Deterministic: fixed blocks of columns are added in a fixed order, and what
two clients give together does not depend on the others.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from torch import Tensor

from . import _native, reference
from ._args import bank_like, output64, within
from ._args import rows as as_rows
from ._launch import speak
from ._triton import jit, launch, piece, slots, strided, tl
from .segments import Segments, blocks

DEPTH, SPANS, WARPS = 32, 128, 4  # columns of a product; slots of a row, besides one per segment


def gram(
    rows: Tensor,
    base: Tensor | None = None,
    *,
    segments: Segments | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Products of the updates `d_k = rows_k - base`: `[K, K]`, or `[L, K, K]` with segments.

    rows      `[K, S]`
    base      `[S]` or `[K, S]`, what updates are measured from; None for rows that are updates
    segments  layers; None takes the whole row, padding included
    out       float64, contiguous, of the shape returned; allocated if None
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    Source: what FedGH (Zhang et al., arXiv 2309.06692) needs to know of K updates.
    """
    bank = bank_like("rows", rows, [base])
    start = None if base is None else as_rows("base", base, bank)
    table, clients = within(segments, bank), bank.shape[0]
    pairs = (clients, clients) if segments is None else (table.count, clients, clients)
    out = output64("out", out, pairs, bank)
    speak(_VOICES, backend, bank, bank, start, table, out.view(table.count, clients, clients))
    return out


def tile_of(clients: int) -> int:
    """Rows and columns of a tile of pairs: no larger than K clients fill."""
    return 16 if clients <= 16 else 32


def _triton_gram(rows: Tensor, base: Tensor | None, segments: Segments, out: Tensor) -> Tensor:
    clients, size = rows.shape
    span = -(-size // (SPANS * DEPTH)) * DEPTH
    cut = blocks(segments, size, max(span, DEPTH), rows.device)
    tile = tile_of(clients)
    across = -(-clients // tile)
    tiles = across * (across + 1) // 2
    partial = slots(rows, cut.count, tiles, tile, tile)
    launch(
        _tile_products,
        tiles * cut.count,
        rows,
        *(*strided(rows), *strided(base), cut.table, clients, size, max(span, DEPTH)),
        *(tiles, partial),
        BASE=base is not None,
        ALIGNED=cut.aligned,
        DEPTH=DEPTH,
        TILE=tile,
        num_warps=WARPS,
    )
    launch(
        _add_spans,
        tiles * segments.count,
        rows,
        *(partial, cut.first, clients, tiles, out),
        TILE=tile,
        num_warps=WARPS,
    )
    return out


@jit
def _place(index):
    """(row, column) of a tile in the lower triangle, counted row by row."""
    row = index * 0
    before = row
    while before + row + 1 <= index:
        row += 1
        before += row
    return row, index - before


@jit
def _updates(rows, row_stride, base, base_stride, k, cols, mask, BASE: tl.constexpr):
    """rows_k - base_k in float64, zeros outside the mask. k: [TILE, 1] int64, cols: [1, DEPTH]."""
    d = tl.load(rows + k * row_stride + cols, mask, other=0.0).to(tl.float64)
    if BASE:
        d -= tl.load(base + k * base_stride + cols, mask, other=0.0).to(tl.float64)
    return d


@jit(do_not_specialize=["clients", "tiles"])
def _tile_products(
    rows,  # [K, S]
    row_stride,
    base,  # [K, S]
    base_stride,
    table,  # [count, 5]
    clients,
    size,
    span,
    tiles,
    partial,  # [count, tiles, TILE, TILE]
    BASE: tl.constexpr,
    ALIGNED: tl.constexpr,
    DEPTH: tl.constexpr,
    TILE: tl.constexpr,
):
    """The pairs of one tile over one span of columns; one program each, tiles fastest."""
    tile = tl.program_id(0) % tiles
    block = tl.program_id(0) // tiles
    start, stop, edge, _, _ = piece(table, block, size, DEPTH, True, ALIGNED)
    row, column = _place(tile)
    lanes = tl.arange(0, TILE).to(tl.int64)[:, None]
    i, j = row * TILE + lanes, column * TILE + lanes
    sums = tl.zeros((TILE, TILE), tl.float64)
    for here in range(start, tl.minimum(start + span, stop), DEPTH):
        cols = here + tl.arange(0, DEPTH)[None, :]
        inside = cols < tl.minimum(start + span, stop)
        a = _updates(rows, row_stride, base, base_stride, i, cols, inside & (i < clients), BASE)
        b = _updates(rows, row_stride, base, base_stride, j, cols, inside & (j < clients), BASE)
        sums = tl.dot(a, tl.trans(b), sums, out_dtype=tl.float64)
    places = lanes * TILE + tl.arange(0, TILE)[None, :]
    slot = tl.program_id(0) // tiles * tiles + tile
    tl.store(partial + slot.to(tl.int64) * TILE * TILE + places, sums)


@jit(do_not_specialize=["clients", "tiles"])
def _add_spans(
    partial,  # [count, tiles, TILE, TILE]
    first,  # [L + 1]
    clients,
    tiles,
    out,  # [L, K, K]
    TILE: tl.constexpr,
):
    """Adds a segment's spans in order, one program per tile and segment; writes both triangles."""
    tile = tl.program_id(0) % tiles
    layer = (tl.program_id(0) // tiles).to(tl.int64)
    row, column = _place(tile)
    a = tl.arange(0, TILE).to(tl.int64)[:, None]
    b = tl.arange(0, TILE).to(tl.int64)[None, :]
    sums = tl.zeros((TILE, TILE), tl.float64)
    for span in range(tl.load(first + layer), tl.load(first + layer + 1)):
        slot = (tl.full((), span, tl.int64) * tiles + tile) * TILE * TILE
        sums += tl.load(partial + slot + a * TILE + b)
    i, j = row * TILE + a, column * TILE + b
    mask = (i < clients) & (j <= i)
    square = out + layer * clients * clients
    tl.store(square + i * clients + j, sums, mask)
    tl.store(square + j * clients + i, sums, mask)


_VOICES = {"reference": reference.gram, "native": _native.gram, "triton": _triton_gram}
