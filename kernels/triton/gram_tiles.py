"""Kernels of `gram`: the pairs of a tile over spans of columns, and the sums over spans."""

from __future__ import annotations

from .common import jit, piece, tl


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
    bank: tl.tuple,
    k: tl.tensor,
    clients: tl.tensor,
    cols: tl.tensor,
    end: tl.tensor,
    BASE: tl.constexpr,
    WHOLE: tl.constexpr,
) -> tl.tensor:
    """rows_k - base_k in float64, zeros from K on. k: [TILE, 1] int64, cols: [1, n].

    bank: rows, their stride, base, its stride; WHOLE: all cols lie below `end`, else zeros there
    """
    exists = k < clients
    if not WHOLE:
        exists = exists & (cols < end)
    d = tl.load(bank[0] + k * bank[1] + cols, exists, other=0.0).to(tl.float64)
    if BASE == "shared":
        if WHOLE:
            d -= tl.load(bank[2] + cols).to(tl.float64)
        else:
            d -= tl.load(bank[2] + cols, cols < end, other=0.0).to(tl.float64)
    elif BASE == "own":
        d -= tl.load(bank[2] + k * bank[3] + cols, exists, other=0.0).to(tl.float64)
    return d


@jit
def _add_products(
    sums: tl.tensor,
    bank: tl.tuple,
    i: tl.tensor,
    j: tl.tensor,
    clients: tl.tensor,
    cols: tl.tensor,
    end: tl.tensor,
    BASE: tl.constexpr,
    WHOLE: tl.constexpr,
    ALONE: tl.constexpr,
) -> tl.tensor:
    """sums of pairs (i, j), and the products of these columns; ALONE: i is j."""
    a = _updates(bank, i, clients, cols, end, BASE, WHOLE)
    if ALONE:
        b = a
    else:
        b = _updates(bank, j, clients, cols, end, BASE, WHOLE)
    return tl.dot(a, tl.trans(b), sums, out_dtype=tl.float64)


@jit(do_not_specialize=["clients", "tiles"])
def tile_products(
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
    SPANS: tl.constexpr,
    ALONE: tl.constexpr,
    DEPTH: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """The pairs of one tile over SPANS spans of columns; one program each, tiles fastest."""
    tile = tl.program_id(0) % tiles
    block = tl.program_id(0) // tiles
    begin, stop, _, _, _ = piece(table, block, size, DEPTH, True, ALIGNED)
    row, column = _place(tile)
    lanes = tl.arange(0, TILE).to(tl.int64)[:, None]
    i, j = row * TILE + lanes, column * TILE + lanes
    bank = rows, row_stride, base, base_stride
    total = tl.zeros((TILE, TILE), tl.float64)
    for index in range(SPANS):
        start = begin + index * span
        end = tl.minimum(start + span, stop)
        last = start + tl.maximum(end - start, 0) // DEPTH * DEPTH
        sums = tl.zeros((TILE, TILE), tl.float64)
        for here in range(start, last, DEPTH):
            cols = here + tl.arange(0, DEPTH)[None, :]
            sums = _add_products(sums, bank, i, j, clients, cols, end, BASE, True, ALONE)
        if last < end:
            cols = last + tl.arange(0, DEPTH)[None, :]
            sums = _add_products(sums, bank, i, j, clients, cols, end, BASE, False, ALONE)
        total += sums
    places = lanes * TILE + tl.arange(0, TILE)[None, :]
    slot = tl.program_id(0).to(tl.int64)
    tl.store(partial + slot * TILE * TILE + places, total)


@jit(do_not_specialize=["clients", "tiles"])
def add_spans(
    partial: tl.tensor,  # [count, tiles, TILE, TILE]
    first: tl.tensor,  # [L + 1]
    clients: tl.tensor,
    tiles: tl.tensor,
    out: tl.tensor,  # [L, K, K]
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """Adds a segment's slots, GROUP neighbours first, and writes both triangles.

    A program has WIDTH columns of a tile's row.
    """
    index = tl.program_id(0) % (tiles * TILE * (TILE // WIDTH))
    layer = (tl.program_id(0) // (tiles * TILE * (TILE // WIDTH))).to(tl.int64)
    line = index // (TILE // WIDTH)  # of all tiles' rows
    here = index % (TILE // WIDTH) * WIDTH + tl.arange(0, WIDTH)[None, :]
    end = tl.load(first + layer + 1)
    lanes = tl.arange(0, LANES).to(tl.int64)[:, None] * GROUP
    sums = tl.zeros((LANES, WIDTH), tl.float64)
    for start in range(tl.load(first + layer), end, LANES * GROUP):
        group = tl.zeros((LANES, WIDTH), tl.float64)
        for neighbour in tl.static_range(GROUP):
            slot = start + lanes + neighbour
            place = (slot * tiles * TILE + line) * TILE + here
            group += tl.load(partial + place, slot < end, other=0.0)
        sums += group
    result = tl.sum(sums, axis=0)[None, :]
    row, column = _place(line // TILE)
    i = (row * TILE + line % TILE).to(tl.int64)
    j = column * TILE + here.to(tl.int64)
    mask = j <= tl.where(i < clients, i, -1)
    square = out + layer * clients * clients
    tl.store(square + i * clients + j, result, mask)
    tl.store(square + j * clients + i, result, mask)
