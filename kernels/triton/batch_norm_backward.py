"""`batch_norm_backward` in Triton: one program per client and channel.

Sums are float64 lanes over fixed blocks of the channel's own samples. A channel is read
twice by one program; the second time it comes from L2.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .norm import WARPS, block_for, folded, place_of, strides
from .tiles import multiple, unit


def batch_norm_backward(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    count: Tensor,
    training: bool,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    """`batch_norm_backward` in Triton."""
    clients, batch, channels = x.shape[:3]
    size = x.shape[3:].numel()
    tensors = (x, weight, dout, mean, rstd, dx, dweight, dbias, base_weight, base_bias)
    launch(
        _pull,
        clients * channels,
        x,
        *(*tensors, strides(*tensors), alpha, beta, count, batch, channels, size),
        UNIT=min(unit(t, size) for t in (x, dout, dx) if t is not None),
        TRAINING=training,
        BLOCK=block_for(batch * size),
        num_warps=WARPS,
    )


@jit
def _pull(
    x: tl.tensor,  # [K, B, C, size]
    weight: tl.tensor,  # [K, C] or None
    dout: tl.tensor,  # [K, B, C, size]
    mean: tl.tensor,  # [K, C]
    rstd: tl.tensor,  # [K, C]
    dx: tl.tensor,  # [K, B, C, size] or None
    dweight: tl.tensor,  # [K, C] or None
    dbias: tl.tensor,  # [K, C] or None
    base_weight: tl.tensor,
    base_bias: tl.tensor,
    strides: tl.tuple,  # over K, of these
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    count: tl.tensor,  # [K] samples
    batch: tl.tensor,
    channels: tl.tensor,
    size: tl.tensor,
    UNIT: tl.constexpr,
    TRAINING: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One channel's dweight and dbias, and dx from them."""
    channel = tl.program_id(0) % channels
    k = (tl.program_id(0) // channels).to(tl.int64)
    size = multiple(size, UNIT)
    counted = tl.load(count + k) * size
    centre = tl.load(mean + k * strides[3] + channel)
    scale = tl.load(rstd + k * strides[4] + channel)
    plain = tl.zeros((BLOCK,), tl.float64)
    along = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, counted, BLOCK):
        e = start + tl.arange(0, BLOCK)
        place = place_of(e, channel, channels, size)
        dy = tl.load(dout + k * strides[2] + place, e < counted, other=0.0)
        value = tl.load(x + k * strides[0] + place, e < counted, other=0.0)
        plain += dy
        along += dy * ((value - centre) * scale)
    down = tl.sum(plain, axis=0)
    turn = tl.sum(along, axis=0)
    if dx is not None:
        factor = scale
        if weight is not None:
            factor = factor * tl.load(weight + k * strides[1] + channel)
        shift = (down / tl.maximum(counted, 1)).to(x.dtype.element_ty)
        tilt = (turn / tl.maximum(counted, 1)).to(x.dtype.element_ty)
        for start in range(0, batch * size, BLOCK):
            e = start + tl.arange(0, BLOCK)
            place = place_of(e, channel, channels, size)
            pull = tl.load(dout + k * strides[2] + place, e < counted, other=0.0)
            if TRAINING:
                value = tl.load(x + k * strides[0] + place, e < counted, other=0.0)
                pull = pull - shift - (value - centre) * scale * tilt
            pull = tl.where(e < counted, pull * factor, 0.0)
            tl.store(dx + k * strides[5] + place, pull, e < batch * size)
        tl.debug_barrier()  # dweight may be weight: every thread has read before one writes
    one = channel >= 0
    scales = alpha, beta, k
    folded(dweight, strides[6], base_weight, strides[8], channel, *scales, turn, one)
    folded(dbias, strides[7], base_bias, strides[9], channel, *scales, down, one)
