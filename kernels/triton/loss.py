"""`cross_entropy` in Triton: a program per client, or, of large batches, one per tile of rows."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .functions import exp_down, row_sums
from .sums import slots, totals
from .tiles import multiple, row_tile, unit

WARPS = 4
FEW = 8  # tiles that one program takes: adding up parts of the loss is a launch more


def cross_entropy(
    logits: Tensor, targets: Tensor, count: Tensor, losses: Tensor, dlogits: Tensor
) -> None:
    clients, batch, classes = logits.shape
    tile = row_tile(batch, classes)
    tiles = max(1, -(-batch // tile[0]))
    parts = 1 if tiles <= FEW else tiles
    partial = losses if parts == 1 else slots(losses, clients, parts)
    launch(
        _cross_entropy,
        clients * parts,
        logits,
        *(logits, logits.stride(0), targets, count, partial, dlogits, dlogits.stride(0)),
        *(clients, batch, classes, parts),
        SPAN=tiles // parts,
        UNIT=min(unit(logits, classes), unit(dlogits, classes)),
        TILE=tile,
        num_warps=WARPS,
    )
    if parts > 1:
        launch(totals, clients, losses, partial, losses, 1, parts, num_warps=WARPS)


@jit(do_not_specialize=["clients", "parts"])
def _cross_entropy(
    logits: tl.tensor,  # [K, B, C]
    logits_stride: tl.tensor,
    targets: tl.tensor,  # [K, B] int64
    count: tl.tensor,  # [K] int32
    losses: tl.tensor,  # [K, parts]
    dlogits: tl.tensor,  # [K, B, C]
    dlogits_stride: tl.tensor,
    clients: tl.tensor,
    batch: tl.tensor,
    classes: tl.tensor,
    parts: tl.tensor,
    SPAN: tl.constexpr,  # tiles of a part
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # rows, classes
) -> None:
    """One program per client and part; rows tile by tile, each read from cache again."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    part = tl.program_id(0) // clients
    classes = multiple(classes, UNIT)
    own_logits = logits + k * multiple(logits_stride, UNIT)
    own_dlogits = dlogits + k * multiple(dlogits_stride, UNIT)
    n = tl.load(count + k)
    share = 1.0 / n.to(tl.float64)
    if (n < 0) | (n > batch):
        share = share * float("nan")
    loss = tl.zeros((TILE[0],), tl.float64)
    for tile in range(part * SPAN, part * SPAN + SPAN):
        rows = tile * TILE[0] + tl.arange(0, TILE[0])
        inside = rows < tl.minimum(n, batch)
        target = tl.load(targets + k * batch + rows, inside, other=0)
        z = own_logits + rows[:, None] * classes
        top, total = row_sums(z, inside, classes, TILE)
        fine = (target >= 0) & (target < classes)
        at = own_logits + rows * classes + target
        picked = tl.load(at, inside & fine, other=0.0) - tl.where(inside, top, 0.0)
        own_share = tl.where(fine, share, float("nan"))
        own_loss = tl.log(total) - picked.to(tl.float64)
        loss += tl.where(inside, tl.where(fine, own_loss, float("nan")), 0.0)
        tl.debug_barrier()  # dlogits may be logits: every warp has read before one writes
        d = own_dlogits + rows[:, None] * classes
        _write(z, d, rows < batch, inside, target, top, total, picked, own_share, classes, TILE)
    # 0 inf without rows: NaN, as in torch
    tl.store(losses + k * parts + part, tl.sum(loss, axis=0) * share)


@jit
def _write(
    z: tl.tensor,
    d: tl.tensor,
    exists: tl.tensor,
    inside: tl.tensor,
    target: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    picked: tl.tensor,
    share: tl.tensor,
    classes: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """(softmax - onehot) / count; in float64 at the target, where float32 would cancel."""
    scale = (share / total).to(z.dtype.element_ty)
    sure = exp_down(picked).to(tl.float64)
    exact = ((sure / total - 1.0) * share).to(z.dtype.element_ty)
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        here = tl.load(z + c, inside[:, None] & (c < classes), other=float("-inf"))
        e = exp_down(here - top[:, None])
        gradient = tl.where(c == target[:, None], exact[:, None], e * scale[:, None])
        gradient = tl.where(inside[:, None], gradient, 0.0)
        tl.store(d + c, gradient, exists[:, None] & (c < classes))
