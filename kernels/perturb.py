"""`perturb`: the ascent of sharpness-aware minimisation, for K clients at once.

    a = sum_j c_j d_j                                        direction, [K, S]
    e = (rho_l / (|t a| + eps) - alpha) * t^2 * a            t = 1; ASAM: |w| + adaptive on weights
    out = w + e

Bytes per element of a client (f = element size, J = number of terms): norm pass reads J f (+ f for
`w` when adaptive), apply pass reads (J + 1) f and writes f: (2 J + 2) f in all, 4 f = 16 bytes for
SAM in float32; shared rows stay in cache and cost nothing. Given `norm`, one pass of (J + 2) f.

Deterministic: each norm adds fixed blocks in a fixed order, so a client's result depends on its own
row alone.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from torch import Tensor

from . import native
from ._args import (
    Coefficient,
    TermsLike,
    as_terms,
    bank_like,
    output,
    per_client,
    split_terms,
    within,
)
from .reference import rows
from .registry import dispatch
from .segments import Segments, blocks
from .triton.common import (
    block_size,
    combine,
    few,
    jit,
    launch,
    pack,
    piece,
    slots,
    squares,
    tl,
    total,
)

WARPS = 8


def perturb(
    w: Tensor,
    terms: TermsLike,
    rho: Coefficient,
    *,
    out: Tensor | None = None,
    segments: Segments | None = None,
    eps: float = 1e-12,
    alpha: Coefficient = 0.0,
    adaptive: float | None = None,
    norm: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = w + (rho / (|t a| + eps) - alpha) * t^2 * a` with `a = sum_j c_j d_j`.

    w         [K, S] or a row [S] shared by all clients
    terms     the direction: a tensor, or a sequence of tensors and (tensor, coefficient); tensors
              `[K, S]` or `[S]`, coefficients numbers or `[K]`
    rho       radius: a number, `[K]`, or `[K, L]` per layer (then `segments` is needed, and with
              L > 1 padding is not moved)
    out       `[K, S]`; may be `w` or a term itself, but not overlap one shifted; allocated if None
    eps       added to the norm, as the papers' codes do (1e-7 FL-Simulator, 1e-12 FedSOL/SAGM,
              1e-16 FedGloSS)
    alpha     gradient-matching shift (SAGM), a number or `[K]`
    adaptive  None, or ASAM's eta: t = |w| + eta on segments flagged `is_weight` (everywhere without
              `segments`), else 1
    norm      `[K]`, |t a| if already known: saves the norm pass
    The norm is one Euclidean norm over the whole row of each client, layers included.

    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    Sources: SAM (Foret et al. 2021, eq. 2), ASAM (Kwon et al. 2021), SAGM (Wang et al. 2023),
    FedFSA (layer radii).
    """
    pairs = split_terms(terms)
    w = bank_like("w", w, [*(d for d, _ in pairs), out])
    return dispatch(
        _VOICES,
        backend,
        w,
        w,
        as_terms(pairs, w),
        _radius(rho, w, segments),
        per_client("alpha", alpha, w),
        float(eps),
        None if adaptive is None else float(adaptive),
        None if norm is None else per_client("norm", norm, w),
        None if segments is None else within(segments, w),
        output("out", out, w),
    )


def _radius(rho: Coefficient, w: Tensor, segments: Segments | None) -> Tensor:
    """`[K, 1]` or `[K, L]`."""
    if not isinstance(rho, Tensor) or rho.ndim < 2:
        return per_client("rho", rho, w)[:, None]
    if segments is None or rho.shape != (w.shape[0], segments.count):
        found = "no segments" if segments is None else f"L = {segments.count}"
        raise ValueError(
            "rho: expected a number, [K], or [K, L] with segments of L layers; "
            f"got {list(rho.shape)}, {found}"
        )
    return rho.to(w.device, w.dtype).contiguous()


def _triton_perturb(
    w: Tensor,
    terms: rows.Terms,
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
    w_row, buffers, strides, coefs, eta, k, cols, edge, stop, is_weight, ADAPTIVE: tl.constexpr
):
    """(w, a, t) on one block of columns; t is 1 unless ADAPTIVE."""
    mask = cols < edge
    w = tl.load(w_row + cols, mask, other=0.0)
    a = combine(buffers, strides, coefs, k, cols, mask)
    t = tl.full(w.shape, 1.0, w.dtype)
    if ADAPTIVE:
        t = tl.where((cols < stop) & (is_weight != 0), tl.abs(w) + tl.load(eta + k), t)
    return w, a, t


@jit(do_not_specialize=["clients", "count"])
def _norm_blocks(
    w,  # [K, S]
    w_stride,
    buffers,  # J of [K, S]
    strides,
    coefs,  # J of [K]
    eta,  # [K]
    table,  # [count, 5]
    clients,
    size,
    count,
    partial,  # [K, count]
    ADAPTIVE: tl.constexpr,
    TABLED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """partial[k, block] = |t a|^2 on the block; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, _, is_weight = piece(table, block, size, BLOCK, TABLED, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    _, a, t = _ascent(
        w + k * w_stride, buffers, strides, coefs, eta, k, cols, edge, stop, is_weight, ADAPTIVE
    )
    tl.store(partial + k * count + block, squares(t * a))


@jit(do_not_specialize=["clients", "count", "parts"])
def _move(
    w,  # [K, S]
    w_stride,
    buffers,  # J of [K, S]
    strides,
    coefs,  # J of [K]
    eta,  # [K]
    table,  # [count, 5]
    clients,
    size,
    count,
    length,  # [K] |t a| if KNOWN, else its squares [K, parts]
    parts,
    rho,  # [K, radii]
    radii,
    alpha,  # [K]
    eps: tl.float64,
    out,  # [K, S]
    out_stride,
    KNOWN: tl.constexpr,
    LAYERED: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    TABLED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = w + (rho / (|t a| + eps) - alpha) t^2 a; one program per client and block."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    start, stop, edge, layer, is_weight = piece(table, block, size, BLOCK, TABLED, ALIGNED)
    cols = start + tl.arange(0, BLOCK)
    w_row = w + k * w_stride
    here, a, t = _ascent(
        w_row, buffers, strides, coefs, eta, k, cols, edge, stop, is_weight, ADAPTIVE
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


_VOICES = {"reference": rows.perturb, "native": native.perturb, "triton": _triton_perturb}
