"""`dropout`: elements dropped by counter-based random numbers; the same call takes gradients back.

    word(e) = Philox4x32-10(counter = (e / 4, 0, layer, 0), key = seeds[k])[e mod 4]
    out[e]  = 0 if word(e // span) < round(p 2^32) else x[e] / (1 - p)

No mask is kept: the backward pass is `dropout` of the gradient with the same seeds, which makes the
same mask anew. An element's fate depends on (seed of its client, layer, its place) alone.
Bytes per element (f = element size): reads f, writes f. Operations: about 20 per element.
Deterministic: element-wise.
Source: Srivastava et al. 2014, "Dropout"; Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3" (Philox).
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
from torch import Tensor

from . import native_sequences
from ._blocks import floating, integers, written
from .reference import sequences
from .registry import dispatch
from .triton.common import jit, launch, multiple, tl, unit

WORDS = 1 << 32
ELEMENTS, COLUMNS, WARPS = 1024, 256, 4  # of a tile, and neighbours of a draw in it at most


def dropout(
    x: Tensor,
    p: float,
    seeds: Tensor,
    layer: int = 0,
    *,
    span: int = 1,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return x with about a share p of its elements 0 and the others divided by 1 - p.

    x      `[K, ...]`, each client's part contiguous
    p      in [0, 1]
    seeds  `[K]` int64, one per client and step
    layer  which of a model's dropouts, in [0, 2^32)
    span   neighbours dropped together, e.g. H W for whole channels; divides a client's size
    out    as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, ...")
    seeds = integers("seeds", seeds, x.shape[:1], torch.int64, x)
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a share in [0, 1]; got {p}")
    if not 0 <= layer < WORDS:
        raise ValueError(f"layer: expected 0 <= layer < 2^32; got {layer}")
    if span < 1 or x.shape[1:].numel() % span:
        raise ValueError(f"span: expected a divisor of {x.shape[1:].numel()}; got {span}")
    out = written("out", out, x.shape, x)
    threshold, scale = round(float(p) * WORDS), 0.0 if p == 1 else 1 / (1 - float(p))
    numbers = int(layer), threshold, scale, int(span)  # Triton binds no NumPy scalars
    return dispatch(_VOICES, backend, x, x, seeds, *numbers, out)


def _triton_dropout(
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
    x,  # [K, draws, span]
    x_stride,
    seeds,  # [K] int64
    out,  # [K, draws, span]
    out_stride,
    clients,
    draws,
    span,
    layer: tl.int64,
    threshold: tl.int64,
    scale: tl.float64,
    PLANES: tl.constexpr,  # whether span is more than 1
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # draws, neighbours that share one
):
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


_VOICES = {
    "reference": sequences.dropout,
    "native": native_sequences.dropout,
    "triton": _triton_dropout,
}
