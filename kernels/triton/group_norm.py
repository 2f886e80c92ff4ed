"""`group_norm` in Triton: one program per client, sample and group.

A group's numbers are contiguous. Sums are float64 lanes over fixed blocks.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .norm import WARPS, block_for, scaled, strides
from .tiles import multiple, unit


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """`group_norm` in Triton."""
    clients, batch, channels = x.shape[:3]
    size = x.shape[3:].numel()
    numbers = channels // groups * size
    tensors = (x, weight, bias, out, mean, rstd)
    launch(
        _normalise,
        clients * batch * groups,
        x,
        *(*tensors, strides(*tensors), batch, groups, channels // groups, size, numbers, eps),
        UNIT=min(unit(x, numbers), unit(out, numbers)),
        BLOCK=block_for(numbers),
        num_warps=WARPS,
    )


@jit
def _normalise(
    x: tl.tensor,  # [K, B, groups, numbers]
    weight: tl.tensor,  # [K, groups * channels] or None
    bias: tl.tensor,  # the same
    out: tl.tensor,  # [K, B, groups, numbers]
    mean: tl.tensor,  # [K, B, groups]
    rstd: tl.tensor,  # [K, B, groups]
    strides: tl.tuple,  # over K, of these
    batch: tl.tensor,
    groups: tl.tensor,
    channels: tl.tensor,  # of a group
    size: tl.tensor,
    numbers: tl.tensor,  # channels * size
    eps: tl.float64,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Statistics of one group, then out, mean and rstd."""
    row = tl.program_id(0) % (batch * groups)
    k = (tl.program_id(0) // (batch * groups)).to(tl.int64)
    first = row % groups * channels
    numbers = multiple(numbers, UNIT)
    start_of_row = row.to(tl.int64) * numbers
    own = x + k * strides[0] + start_of_row
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, numbers, BLOCK):
        i = start + tl.arange(0, BLOCK)
        sums += tl.load(own + i, i < numbers, other=0.0)
    centre = tl.sum(sums, axis=0) / numbers
    squares = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, numbers, BLOCK):
        i = start + tl.arange(0, BLOCK)
        value = tl.load(own + i, i < numbers, other=0.0).to(tl.float64)
        centred = tl.where(i < numbers, value - centre, 0.0)
        squares += centred * centred
    variance = tl.sum(squares, axis=0) / numbers
    middle = centre.to(x.dtype.element_ty)
    scale = (1.0 / tl.sqrt(variance + eps)).to(x.dtype.element_ty)
    tl.store(mean + k * strides[4] + row, middle)
    tl.store(rstd + k * strides[5] + row, scale)
    if weight is not None:
        weight += k * strides[1]
    if bias is not None:
        bias += k * strides[2]
    for start in range(0, numbers, BLOCK):
        i = start + tl.arange(0, BLOCK)
        value = (tl.load(own + i, i < numbers, other=0.0) - middle) * scale
        value = scaled(value, weight, bias, first + i // size, i < numbers)
        tl.store(out + k * strides[3] + start_of_row + i, value, i < numbers)
