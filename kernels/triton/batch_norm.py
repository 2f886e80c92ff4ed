"""`batch_norm` in Triton: one program per client and channel.

Sums are float64 lanes over fixed blocks of the channel's own samples. A channel is read three
times by one program; the second and third time it comes from L2.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .norm import WARPS, block_for, place_of, strides
from .tiles import multiple, unit


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    count: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """`batch_norm` in Triton."""
    clients, batch, channels = x.shape[:3]
    size = x.shape[3:].numel()
    tensors = (x, weight, bias, running_mean, running_var, out, mean, rstd)
    launch(
        _normalise,
        clients * channels,
        x,
        *(*tensors, strides(*tensors), count, batch, channels, size, momentum, eps),
        UNIT=min(unit(x, size), unit(out, size)),
        TRAINING=training,
        BLOCK=block_for(batch * size),
        num_warps=WARPS,
    )


@jit
def _statistics(
    x: tl.tensor,
    channel: tl.tensor,
    channels: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """(mean, biased variance) of the first `count` numbers of a channel; zeros without any."""
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, count, BLOCK):
        e = start + tl.arange(0, BLOCK)
        sums += tl.load(x + place_of(e, channel, channels, size), e < count, other=0.0)
    mean = tl.sum(sums, axis=0) / tl.maximum(count, 1)
    squares = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, count, BLOCK):
        e = start + tl.arange(0, BLOCK)
        value = tl.load(x + place_of(e, channel, channels, size), e < count, other=0.0)
        centred = tl.where(e < count, value.to(tl.float64) - mean, 0.0)
        squares += centred * centred
    return mean, tl.sum(squares, axis=0) / tl.maximum(count, 1)


@jit
def _move(running: tl.tensor, statistic: tl.tensor, momentum: tl.tensor, count: tl.tensor) -> None:
    """`running` by `momentum` towards a batch's statistic, if the batch is not empty."""
    if running is not None:
        kept = tl.load(running).to(tl.float64)
        moved = (1.0 - momentum) * kept + momentum * statistic
        tl.store(running, moved.to(running.dtype.element_ty), count > 0)


@jit
def _normalise(
    x: tl.tensor,  # [K, B, C, size]
    weight: tl.tensor,  # [K, C] or None
    bias: tl.tensor,  # [K, C] or None
    running_mean: tl.tensor,  # [K, C] or None
    running_var: tl.tensor,  # [K, C] or None
    out: tl.tensor,  # [K, B, C, size]
    mean: tl.tensor,  # [K, C]
    rstd: tl.tensor,  # [K, C]
    strides: tl.tuple,  # over K, of these
    count: tl.tensor,  # [K] samples
    batch: tl.tensor,
    channels: tl.tensor,
    size: tl.tensor,
    momentum: tl.float64,
    eps: tl.float64,
    UNIT: tl.constexpr,
    TRAINING: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Statistics of one channel, then out, mean, rstd and the running statistics."""
    channel = tl.program_id(0) % channels
    k = (tl.program_id(0) // channels).to(tl.int64)
    size = multiple(size, UNIT)
    x += k * strides[0]
    if TRAINING:
        counted = tl.load(count + k) * size
        centre, variance = _statistics(x, channel, channels, size, counted, BLOCK)
        if running_mean is not None:
            unbiased = variance * counted / tl.maximum(counted - 1, 1)
            _move(running_mean + k * strides[3] + channel, centre, momentum, counted)
            _move(running_var + k * strides[4] + channel, unbiased, momentum, counted)
    else:
        centre = tl.load(running_mean + k * strides[3] + channel).to(tl.float64)
        variance = tl.load(running_var + k * strides[4] + channel).to(tl.float64)
    centre = centre.to(x.dtype.element_ty)
    scale = (1.0 / tl.sqrt(variance + eps)).to(x.dtype.element_ty)
    tl.store(mean + k * strides[6] + channel, centre)
    tl.store(rstd + k * strides[7] + channel, scale)
    for start in range(0, batch * size, BLOCK):
        e = start + tl.arange(0, BLOCK)
        mask = e < batch * size
        place = place_of(e, channel, channels, size)
        value = (tl.load(x + place, mask, other=0.0) - centre) * scale
        if weight is not None:
            value = value * tl.load(weight + k * strides[1] + channel)
        if bias is not None:
            value = value + tl.load(bias + k * strides[2] + channel)
        tl.store(out + k * strides[5] + place, value, mask)
