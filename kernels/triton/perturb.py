"""`perturb` in Triton: squares of the direction block by block, then one pass that moves."""

from __future__ import annotations

from torch import Tensor

from .._args import per_client
from ..reference.common import Terms
from ..segments import Segments, blocks
from .common import block_size, combine, jit, launch, pack, piece, tl
from .sums import few, slots, squares, total

WARPS = 8


def perturb(
    w: Tensor,
    terms: Terms,
    rho: Tensor,
    alpha: Tensor,
    eps: float,
    adaptive: float | None,
    norm: Tensor | None,
    segments: Segments | None,
    out: Tensor,
) -> Tensor:
    clients, size = w.shape
    layered, block = rho.shape[1] > 1, block_size(len(terms))
    cut = None
    if segments is not None and (layered or adaptive is not None):
        cut = blocks(segments, size, block, w.device)
    table, count = (None, -(-size // block)) if cut is None else (cut.table, cut.count)
    eta = None if adaptive is None else per_client("adaptive", adaptive, w)
    inputs = (w, w.stride(0), *pack(terms), eta, table, clients, size, count)
    meta = dict(
        ADAPTIVE=adaptive is not None,
        TABLED=cut is not None,
        ALIGNED=cut is not None and cut.aligned,
        BLOCK=block,
        num_warps=WARPS,
    )
    length, parts = norm, 0
    if length is None:
        partial = slots(w, clients, count)
        launch(_norm_blocks, clients * count, w, *inputs, partial, **meta)
        length = few(partial)
        parts = length.shape[1]
    scale = (length, parts, rho, rho.shape[1], alpha, eps)
    meta |= dict(KNOWN=norm is not None, LAYERED=layered)
    launch(_move, clients * count, w, *inputs, *scale, out, out.stride(0), **meta)
    return out


@jit
def _ascent(
    w_row: tl.tensor,
    buffers: tl.tuple,
    strides: tl.tuple,
    places: tl.tuple,
    coefs: tl.tuple,
    eta: tl.tensor,
    k: tl.tensor,
    cols: tl.tensor,
    edge: tl.tensor,
    stop: tl.tensor,
    is_weight: tl.tensor,
    ADAPTIVE: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """(w, a, t) on one block of columns; t is 1 unless ADAPTIVE."""
    mask = cols < edge
    w = tl.load(w_row + cols, mask, other=0.0)
    a = combine(buffers, strides, places, coefs, k, cols, mask)
    t = tl.full(w.shape, 1.0, w.dtype)
    if ADAPTIVE:
        t = tl.where((cols < stop) & (is_weight != 0), tl.abs(w) + tl.load(eta + k), t)
    return w, a, t


@jit(do_not_specialize=["clients", "count"])
def _norm_blocks(
    w: tl.tensor,  # [K, S]
    w_stride: tl.tensor,
    buffers: tl.tuple,  # J of [K, S]
    strides: tl.tuple,
    places: tl.tuple,
    coefs: tl.tuple,  # J of [K]
    eta: tl.tensor,  # [K]
    table: tl.tensor,  # [count, 5]
    clients: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    partial: tl.tensor,  # [K, count]
    ADAPTIVE: tl.constexpr,
    TABLED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """partial[k, block] = |t a|^2 on the block; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, _, is_weight = piece(table, block, size, BLOCK, TABLED, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    _, a, t = _ascent(
        w + k * w_stride,
        buffers,
        strides,
        places,
        coefs,
        eta,
        k,
        cols,
        edge,
        stop,
        is_weight,
        ADAPTIVE,
    )
    tl.store(partial + k * count + block, squares(t * a))


@jit(do_not_specialize=["clients", "count", "parts"])
def _move(
    w: tl.tensor,  # [K, S]
    w_stride: tl.tensor,
    buffers: tl.tuple,  # J of [K, S]
    strides: tl.tuple,
    places: tl.tuple,
    coefs: tl.tuple,  # J of [K]
    eta: tl.tensor,  # [K]
    table: tl.tensor,  # [count, 5]
    clients: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    length: tl.tensor,  # [K] |t a| if KNOWN, else its squares [K, parts]
    parts: tl.tensor,
    rho: tl.tensor,  # [K, radii]
    radii: tl.tensor,
    alpha: tl.tensor,  # [K]
    eps: tl.float64,
    out: tl.tensor,  # [K, S]
    out_stride: tl.tensor,
    KNOWN: tl.constexpr,
    LAYERED: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    TABLED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """out = w + (rho / (|t a| + eps) - alpha) t^2 a; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, layer, is_weight = piece(table, block, size, BLOCK, TABLED, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    w_row = w + k * w_stride
    here, a, t = _ascent(
        w_row, buffers, strides, places, coefs, eta, k, cols, edge, stop, is_weight, ADAPTIVE
    )
    if KNOWN:
        norm = tl.load(length + k).to(tl.float64)
    else:
        norm = tl.sqrt(total(length + k * parts, parts))
    radius = tl.load(rho + k * radii + (layer if LAYERED else 0)).to(tl.float64)
    scale = (radius / (norm + eps) - tl.load(alpha + k).to(tl.float64)).to(here.dtype)
    if LAYERED:
        scale = tl.where(cols < stop, scale, 0.0)
    tl.store(out + k * out_stride + cols, here + scale * (t * t * a), cols < edge)
