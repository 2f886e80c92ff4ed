"""`gram` in Triton: tiles of pairs over spans of columns, then the spans of a segment in order.

Products are float64 tensor cores' (DMMA). A pair's sum is the same to the bit whatever tile it is
in: `tl.dot` takes columns in fours (or sixteens) one after another, `DEPTH` of them at a time,
within a span; GROUP spans that lie side by side are added one after another, by the program that
computes them or by `add_spans`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..segments import Segments, blocks
from .common import launch, strided
from .gram_tiles import add_spans, tile_products
from .sums import slots

# Columns of a product; spans of a row, besides one per segment; spans side by side that are added
# first. None depends on K.
DEPTH, SPANS, GROUP = 32, 1024, 4
LANES, WIDTH = 128, 16  # of the sums over spans: groups, columns of a tile


class Tile(NamedTuple):
    """What a program takes: SIDE x SIDE pairs over so many spans; stages of its pipeline."""

    side: int
    spans: int
    warps: int
    stages: int


# Few clients: small tiles, so that the products of rows that do not exist cost less than reading
# those that do, and many programs. Many clients: few partial sums.
TILES = (Tile(8, 1, 1, 5), Tile(16, 1, 1, 4), Tile(32, GROUP, 4, 3))


def gram(rows: Tensor, base: Tensor | None, segments: Segments, out: Tensor) -> Tensor:
    clients, size = rows.shape
    own = next((t for t in TILES if clients <= t.side), TILES[-1])
    span = max(1, -(-size // (SPANS * DEPTH))) * DEPTH
    cut = blocks(segments, size, own.spans * span, rows.device)
    across = -(-clients // own.side)
    tiles = across * (across + 1) // 2
    partial = slots(rows, cut.count, tiles, own.side, own.side)
    launch(
        tile_products,
        tiles * cut.count,
        rows,
        *(*strided(rows), *strided(base), cut.table, clients, size, span, tiles, partial),
        BASE="none" if base is None else "shared" if base.stride(0) == 0 else "own",
        ALIGNED=cut.aligned,
        SPANS=own.spans,
        ALONE=tiles == 1,
        DEPTH=DEPTH,
        TILE=own.side,
        num_warps=own.warps,
        num_stages=own.stages,
    )
    width = min(own.side, WIDTH)
    launch(
        add_spans,
        tiles * own.side * (own.side // width) * segments.count,
        rows,
        *(partial, cut.first, clients, tiles, out),
        GROUP=GROUP // own.spans,
        LANES=LANES,
        TILE=own.side,
        WIDTH=width,
        num_warps=8,
    )
    return out
