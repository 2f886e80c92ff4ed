"""`cross_entropy` in Triton: a program per client, its rows tile by tile."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .functions import exp_down, row_sums

ELEMENTS, CLASSES, WARPS = 1024, 512, 4  # of a tile, and classes of it at most


def cross_entropy(
    logits: Tensor, targets: Tensor, count: Tensor, losses: Tensor, dlogits: Tensor
) -> None:
    clients, batch, classes = logits.shape
    columns = min(1 << (classes - 1).bit_length(), CLASSES)
    rows = min(1 << max(batch - 1, 0).bit_length(), ELEMENTS // columns)
    launch(
        _cross_entropy,
        clients,
        logits,
        *(logits, logits.stride(0), targets, count, losses, dlogits, dlogits.stride(0)),
        *(batch, classes),
        TILE=(rows, columns),
        num_warps=WARPS,
    )


@jit
def _cross_entropy(
    logits: tl.tensor,  # [K, B, C]
    logits_stride: tl.tensor,
    targets: tl.tensor,  # [K, B] int64
    count: tl.tensor,  # [K] int32
    losses: tl.tensor,  # [K]
    dlogits: tl.tensor,  # [K, B, C]
    dlogits_stride: tl.tensor,
    batch: tl.tensor,
    classes: tl.tensor,
    TILE: tl.constexpr,  # rows, classes
) -> None:
    """One program per client; rows tile by tile, each read from cache again where C is large."""
    k = tl.program_id(0).to(tl.int64)
    n = tl.load(count + k)
    share = 1.0 / n.to(tl.float64)
    if (n < 0) | (n > batch):
        share = share * float("nan")
    loss = tl.zeros((TILE[0],), tl.float64)
    for start in range(0, batch, TILE[0]):
        rows = start + tl.arange(0, TILE[0])
        inside = rows < tl.minimum(n, batch)
        target = tl.load(targets + k * batch + rows, inside, other=0)
        z = logits + k * logits_stride + rows[:, None] * classes
        top, total = row_sums(z, inside, classes, TILE)
        fine = (target >= 0) & (target < classes)
        at = logits + k * logits_stride + rows * classes + target
        picked = tl.load(at, inside & fine, other=0.0) - tl.where(inside, top, 0.0)
        own_share = tl.where(fine, share, float("nan"))
        own_loss = tl.log(total) - picked.to(tl.float64)
        loss += tl.where(inside, tl.where(fine, own_loss, float("nan")), 0.0)
        tl.debug_barrier()  # dlogits may be logits: every warp has read before one writes
        d = dlogits + k * dlogits_stride + rows[:, None] * classes
        _write(z, d, rows < batch, inside, target, top, total, picked, own_share, classes, TILE)
    tl.store(losses + k, tl.sum(loss, axis=0) * share)  # 0 inf without rows: NaN, as in torch


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
