"""`dropout` in Triton: a program per client and tile of draws."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .tiles import multiple, unit

ELEMENTS, COLUMNS, WARPS = 1024, 256, 4  # of a tile, and neighbours of a draw in it at most


def dropout(
    x: Tensor, seeds: Tensor, layer: int, threshold: int, scale: float, span: int, out: Tensor
) -> Tensor:
    clients, draws = x.shape[0], x[:1].numel() // span
    columns = min(1 << (span - 1).bit_length(), COLUMNS)
    rows, run = ELEMENTS // columns, draws if span == 1 else span
    launch(
        _drop,
        clients * -(-draws // rows),
        x,
        *(x, x.stride(0), seeds, out, out.stride(0)),
        *(clients, draws, span, layer, threshold, scale),
        PLANES=span > 1,
        UNIT=min(unit(x, run), unit(out, run)),
        TILE=(rows, columns),
        num_warps=WARPS,
    )
    return out


@jit(do_not_specialize=["clients", "layer", "threshold"])
def _drop(
    x: tl.tensor,  # [K, draws, span]
    x_stride: tl.tensor,
    seeds: tl.tensor,  # [K] int64
    out: tl.tensor,  # [K, draws, span]
    out_stride: tl.tensor,
    clients: tl.tensor,
    draws: tl.tensor,
    span: tl.tensor,
    layer: tl.int64,
    threshold: tl.int64,
    scale: tl.float64,
    PLANES: tl.constexpr,  # whether span is more than 1
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # draws, neighbours that share one
) -> None:
    """One program per client and tile of draws; four neighbouring draws are one block of Philox."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    first = tl.program_id(0) // clients * TILE[0]
    if PLANES:
        span = multiple(span, UNIT)
    else:
        draws = multiple(draws, UNIT)
    blocks = first // 4 + tl.arange(0, TILE[0] // 4)
    w0, w1, w2, w3 = tl.philox(tl.load(seeds + k), blocks, 0, layer.to(tl.uint32), 0)
    words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    kept = (words.to(tl.int64) >= threshold)[:, None]
    factor = tl.full((), scale, x.dtype.element_ty)
    draw = (first + tl.arange(0, TILE[0]))[:, None]
    for start in range(0, span, TILE[1]):
        neighbour = start + tl.arange(0, TILE[1])[None, :]
        mask = (draw < draws) & (neighbour < span)
        place = draw * span + neighbour
        value = tl.load(x + k * multiple(x_stride, UNIT) + place, mask, other=0.0)
        value = tl.where(kept, value * factor, 0.0)
        tl.store(out + k * multiple(out_stride, UNIT) + place, value, mask)
