"""`kl_gradient` in Triton: tiles of each client's rows."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .functions import exp_down, row_sums
from .tiles import multiple, row_tile, unit

WARPS = 4


def kl_gradient(logits: Tensor, before: Tensor, count: Tensor, scale: float, out: Tensor) -> Tensor:
    clients, batch, classes = logits.shape
    operands, tile = (logits, before, out), row_tile(batch, classes)
    launch(
        _kl_gradient,
        clients * max(1, -(-batch // tile[0])),
        logits,
        *(*operands, tuple(t.stride(0) for t in operands), count, scale),
        *(clients, batch, classes),
        UNIT=min(unit(t, classes) for t in operands),
        TILE=tile,
        num_warps=WARPS,
    )
    return out


@jit(do_not_specialize=["clients"])
def _kl_gradient(
    logits: tl.tensor,  # [K, B, C]
    before: tl.tensor,  # [K, B, C]
    out: tl.tensor,  # [K, B, C]
    strides: tl.tuple,  # over K, of these
    count: tl.tensor,  # [K] int32
    scale: tl.float64,  # 1 / T
    clients: tl.tensor,
    batch: tl.tensor,
    classes: tl.tensor,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # rows, classes
) -> None:
    """A tile of rows, each read from cache again where C is large."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    row = tl.program_id(0) // clients * TILE[0] + tl.arange(0, TILE[0])
    classes = multiple(classes, UNIT)
    n = tl.load(count + k)
    exists, inside = row < batch, row < tl.minimum(n, batch)
    wrong = tl.where((n < 0) | (n > batch), float("nan"), 0.0)
    weight = scale / n.to(tl.float64) + wrong
    factor = tl.full((), scale, logits.dtype.element_ty)
    here = logits + k * multiple(strides[0], UNIT) + row[:, None] * classes
    there = before + k * multiple(strides[1], UNIT) + row[:, None] * classes
    to = out + k * multiple(strides[2], UNIT) + row[:, None] * classes
    top, total = row_sums(here, inside, classes, TILE, factor)
    peak, sum_there = row_sums(there, inside, classes, TILE, factor)
    own = (weight / total).to(factor.dtype)[:, None]
    share = (weight / sum_there).to(factor.dtype)[:, None]
    tl.debug_barrier()  # out may be logits: every warp has read before one writes
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        mask = inside[:, None] & (c < classes)
        one = exp_down((tl.load(here + c, mask, other=0.0) - top[:, None]) * factor)
        other = exp_down((tl.load(there + c, mask, other=0.0) - peak[:, None]) * factor)
        gap = tl.where(inside[:, None], one * own - other * share, wrong.to(factor.dtype))
        tl.store(to + c, gap, exists[:, None] & (c < classes))
