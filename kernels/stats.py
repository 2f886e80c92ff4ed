"""`stats`: per-client, per-layer sums over one or two banks in one pass.

    a = x - x_ref,  b = y - y_ref                    (references optional; b = 0 without y)
    out[k, l] = ( sum aa, sum ab, sum bb, sum |ab|, number of non-finite a or b )

Bytes per element of a client: reads f for each of x, y, x_ref, y_ref given (f = element size);
writes 40 bytes per segment. Sums are taken in float64 over fixed blocks in a fixed order:
deterministic, the same for any K.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from . import native
from ._args import bank_like, output64, rows, within
from .reference import rows as reference
from .registry import dispatch
from .segments import Segments, blocks
from .triton.common import jit, launch, piece, slots, strided, tl

BLOCK, WARPS = 1024, 4


class Column(IntEnum):
    """The last axis of what `stats` returns."""

    XX = 0
    XY = 1
    YY = 2
    ABS_XY = 3
    NONFINITE = 4


def stats(
    x: Tensor,
    y: Tensor | None = None,
    *,
    x_ref: Tensor | None = None,
    y_ref: Tensor | None = None,
    segments: Segments | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Sums over each segment of `a = x - x_ref`, `b = y - y_ref`: `[K, L, 5]`, see `Column`.

    x, y, x_ref, y_ref   `[K, S]` or a shared row `[S]`
    segments             layers; None takes the whole row as one segment, padding included
    out                  `[K, L, 5]` float64, contiguous; allocated if None
    Squares, products and differences are formed in float64; `norms` and `cosines` read the result.
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    """
    x = bank_like("x", x, [y, x_ref, y_ref])
    if y is None and y_ref is not None:
        raise ValueError("y_ref: expected None without y; got a tensor")
    segments = within(segments, x)
    out = output64("out", out, (x.shape[0], segments.count, len(Column)), x)
    others = [
        None if o is None else rows(n, o, x)
        for n, o in (("y", y), ("x_ref", x_ref), ("y_ref", y_ref))
    ]
    return dispatch(_VOICES, backend, x, x, *others, segments, out)


def norms(sums: Tensor, column: Column = Column.XX) -> Tensor:
    """Euclidean norm of each client's row: sqrt of the sum over segments. `[K, L, 5]` -> `[K]`."""
    return sums[..., column].sum(dim=1).sqrt()


def cosines(sums: Tensor) -> Tensor:
    """Cosine of a and b over all segments, 0 where a norm is 0. `[K, L, 5]` -> `[K]`."""
    xx, xy, yy = (sums[..., c].sum(dim=1) for c in (Column.XX, Column.XY, Column.YY))
    length = (xx * yy).sqrt()
    return torch.where(length > 0, xy / length, torch.zeros_like(xy))


def _triton_stats(
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
    x,  # [K, S]
    x_stride,
    y,  # [K, S]
    y_stride,
    x_ref,  # [K, S]
    x_ref_stride,
    y_ref,  # [K, S]
    y_ref_stride,
    table,  # [count, 5]
    clients,
    size,
    count,
    partial,  # [K, count, 8], five used
    Y: tl.constexpr,
    X_REF: tl.constexpr,
    Y_REF: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
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
    partial,  # [K, count, 8]
    first,  # [L + 1]
    clients,
    count,
    layers,
    out,  # [K, L, 5]
):
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


_VOICES = {"reference": reference.stats, "native": native.stats, "triton": _triton_stats}
