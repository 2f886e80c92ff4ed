"""`step` in Triton: one pass; under a clip partial squares block by block before it."""

from __future__ import annotations

from torch import Tensor

from ..placed import RowsLike
from ..reference.common import Terms
from .common import block_size, combine, jit, launch, pack, placed, row_of, strided, tl
from .sums import few, slots, squares, total

WARPS = 8


def step(
    w: RowsLike,
    terms: Terms,
    eta: Tensor,
    w_ref: Tensor | None,
    lam: Tensor,
    weight_decay: Tensor,
    clip_norm: Tensor | None,
    momentum: Tensor,
    nesterov: bool,
    m: Tensor | None,
    out: RowsLike,
    squares: Tensor | None,
) -> RowsLike:
    clients, size = w.shape
    block = block_size(len(terms))
    count = -(-size // block)
    inputs = (*placed(w), *pack(terms), *strided(w_ref), lam, clients, size)
    meta = dict(PROX=w_ref is not None, BLOCK=block, num_warps=WARPS)
    partial, parts = squares, 0
    if clip_norm is not None:
        if partial is None:
            partial = slots(lam, clients, count)
            launch(_norm_blocks, clients * count, lam, *inputs, partial, count, **meta)
        partial = few(partial)
        parts = partial.shape[1]
    scalars = (partial, parts, clip_norm, eta, weight_decay, momentum)
    meta |= dict(CLIP=clip_norm is not None, MOMENTUM=m is not None, NESTEROV=nesterov)
    moved = *strided(m), *placed(out)
    launch(_descend, clients * count, lam, *inputs, *scalars, *moved, **meta)
    return out


@jit(do_not_specialize=["clients", "count"])
def _norm_blocks(
    w: tl.tensor,  # [K, S]
    w_stride: tl.tensor,
    w_places: tl.tensor,  # [K] or none
    buffers: tl.tuple,  # J of [K, S]
    strides: tl.tuple,
    places: tl.tuple,
    coefs: tl.tuple,  # J of [K]
    w_ref: tl.tensor,  # [K, S]
    ref_stride: tl.tensor,
    lam: tl.tensor,  # [K]
    clients: tl.tensor,
    size: tl.tensor,
    partial: tl.tensor,  # [K, count]
    count: tl.tensor,
    PROX: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """partial[k, block] = |d|^2 on the block; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    cols = block * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    d = combine(buffers, strides, places, coefs, k, cols, mask)
    if PROX:
        here = tl.load(w + row_of(w_places, k) * w_stride + cols, mask, other=0.0)
        d += tl.load(lam + k) * (here - tl.load(w_ref + k * ref_stride + cols, mask, other=0.0))
    tl.store(partial + k * count + block, squares(d))


@jit(do_not_specialize=["clients", "parts"])
def _descend(
    w: tl.tensor,  # [K, S]
    w_stride: tl.tensor,
    w_places: tl.tensor,  # [K] or none
    buffers: tl.tuple,  # J of [K, S]
    strides: tl.tuple,
    places: tl.tuple,
    coefs: tl.tuple,  # J of [K]
    w_ref: tl.tensor,  # [K, S]
    ref_stride: tl.tensor,
    lam: tl.tensor,  # [K]
    clients: tl.tensor,
    size: tl.tensor,
    partial: tl.tensor,  # [K, parts] squares of d
    parts: tl.tensor,
    clip_norm: tl.tensor,  # [K]
    eta: tl.tensor,  # [K]
    weight_decay: tl.tensor,  # [K]
    momentum: tl.tensor,  # [K]
    m: tl.tensor,  # [K, S]
    m_stride: tl.tensor,
    out: tl.tensor,  # [K, S]
    out_stride: tl.tensor,
    out_places: tl.tensor,  # [K] or none
    PROX: tl.constexpr,
    CLIP: tl.constexpr,
    MOMENTUM: tl.constexpr,
    NESTEROV: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """m and out of the formula of `kernels/step.py`; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    here = tl.load(w + row_of(w_places, k) * w_stride + cols, mask, other=0.0)
    v = combine(buffers, strides, places, coefs, k, cols, mask)
    if PROX:
        v += tl.load(lam + k) * (here - tl.load(w_ref + k * ref_stride + cols, mask, other=0.0))
    if CLIP:
        norm = tl.sqrt(total(partial + k * parts, parts))
        ratio = tl.load(clip_norm + k).to(tl.float64) / (norm + 1e-6)
        v = tl.where(ratio > 1.0, 1.0, ratio).to(here.dtype) * v  # a NaN stays one
    v += tl.load(weight_decay + k) * here
    if MOMENTUM:
        beta = tl.load(momentum + k)
        moment = beta * tl.load(m + k * m_stride + cols, mask, other=0.0) + v
        tl.store(m + k * m_stride + cols, moment, mask)
        v = v + beta * moment if NESTEROV else moment
    row = out + row_of(out_places, k) * out_stride
    tl.store(row + cols, here - tl.load(eta + k) * v, mask)
