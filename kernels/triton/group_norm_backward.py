"""`group_norm_backward` in Triton: dx by one program per client, sample and group.

Gradients of the affine part are sums over samples: a program per
client and a few channels. Sums are float64 lanes over fixed blocks.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .norm import WARPS, block_for, folded, scaled, strides
from .tiles import multiple, unit

LONG = 8  # numbers of a channel from which on a program takes one channel
TILES = (32, 32), (1024, 1)  # numbers x channels


def group_norm_backward(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    """`group_norm_backward` in Triton."""
    clients, batch, channels = x.shape[:3]
    size = x.shape[3:].numel()
    given = (x, weight, dout, mean, rstd)
    sizes = (batch, groups, channels // groups, size)
    if dx is not None:
        numbers = channels // groups * size
        launch(
            _pull,
            clients * batch * groups,
            x,
            *(*given, dx, strides(*given, dx), *sizes, numbers),
            UNIT=min(unit(t, numbers) for t in (x, dout, dx)),
            BLOCK=block_for(numbers),
            num_warps=WARPS,
        )
    if dweight is not None or dbias is not None:
        tile, sinks = TILES[size >= LONG], (dweight, dbias, base_weight, base_bias)
        launch(
            _affine,
            clients * -(-channels // tile[1]),
            x,
            *(x, dout, mean, rstd, *sinks, strides(x, dout, mean, rstd, *sinks)),
            *(alpha, beta, *sizes),
            UNIT=min(unit(x, size), unit(dout, size)),
            TILE=tile,
            num_warps=WARPS,
        )


@jit
def _pull(
    x: tl.tensor,  # [K, B, groups, numbers]
    weight: tl.tensor,  # [K, groups * channels] or None
    dout: tl.tensor,  # [K, B, groups, numbers]
    mean: tl.tensor,  # [K, B, groups]
    rstd: tl.tensor,  # [K, B, groups]
    dx: tl.tensor,  # [K, B, groups, numbers]
    strides: tl.tuple,  # over K, of these
    batch: tl.tensor,
    groups: tl.tensor,
    channels: tl.tensor,  # of a group
    size: tl.tensor,
    numbers: tl.tensor,  # channels * size
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One group's dx."""
    row = tl.program_id(0) % (batch * groups)
    k = (tl.program_id(0) // (batch * groups)).to(tl.int64)
    first = row % groups * channels
    numbers = multiple(numbers, UNIT)
    start_of_row = row.to(tl.int64) * numbers
    centre = tl.load(mean + k * strides[3] + row)
    scale = tl.load(rstd + k * strides[4] + row)
    if weight is not None:
        weight += k * strides[1]
    own = x + k * strides[0] + start_of_row
    given = dout + k * strides[2] + start_of_row
    plain = tl.zeros((BLOCK,), tl.float64)
    along = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, numbers, BLOCK):
        i = start + tl.arange(0, BLOCK)
        dy = tl.load(given + i, i < numbers, other=0.0)
        dy = scaled(dy, weight, None, first + i // size, i < numbers)
        plain += dy
        along += dy * ((tl.load(own + i, i < numbers, other=0.0) - centre) * scale)
    shift = (tl.sum(plain, axis=0) / numbers).to(x.dtype.element_ty)
    tilt = (tl.sum(along, axis=0) / numbers).to(x.dtype.element_ty)
    for start in range(0, numbers, BLOCK):
        i = start + tl.arange(0, BLOCK)
        dy = tl.load(given + i, i < numbers, other=0.0)
        dy = scaled(dy, weight, None, first + i // size, i < numbers)
        normal = (tl.load(own + i, i < numbers, other=0.0) - centre) * scale
        pull = (dy - shift - normal * tilt) * scale
        tl.store(dx + k * strides[5] + start_of_row + i, pull, i < numbers)


@jit
def _affine(
    x: tl.tensor,  # [K, B, groups * channels, size]
    dout: tl.tensor,  # the same
    mean: tl.tensor,  # [K, B, groups]
    rstd: tl.tensor,  # [K, B, groups]
    dweight: tl.tensor,  # [K, groups * channels] or None
    dbias: tl.tensor,  # the same
    base_weight: tl.tensor,
    base_bias: tl.tensor,
    strides: tl.tuple,  # over K, of these
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    batch: tl.tensor,
    groups: tl.tensor,
    channels: tl.tensor,  # of a group
    size: tl.tensor,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """dweight and dbias of a few channels: sums over samples and places."""
    size = multiple(size, UNIT)
    width = groups * channels
    blocks = tl.cdiv(width, TILE[1])
    k = (tl.program_id(0) // blocks).to(tl.int64)
    channel = tl.program_id(0) % blocks * TILE[1] + tl.arange(0, TILE[1])
    c = channel[None, :]
    along = tl.zeros(TILE, tl.float64)
    plain = tl.zeros(TILE, tl.float64)
    for start in range(0, batch * size, TILE[0]):
        i = (start + tl.arange(0, TILE[0]))[:, None]
        mask = (i < batch * size) & (c < width)
        sample = (i // size).to(tl.int64)
        place = (sample * width + c) * size + i % size
        row = sample * groups + c // channels
        dy = tl.load(dout + k * strides[1] + place, mask, other=0.0)
        value = tl.load(x + k * strides[0] + place, mask, other=0.0)
        value -= tl.load(mean + k * strides[2] + row, mask, other=0.0)
        plain += dy
        along += dy * (value * tl.load(rstd + k * strides[3] + row, mask, other=0.0))
    inside = channel < width
    turn = tl.sum(along, axis=0)
    down = tl.sum(plain, axis=0)
    scales = alpha, beta, k
    folded(dweight, strides[4], base_weight, strides[6], channel, *scales, turn, inside)
    folded(dbias, strides[5], base_bias, strides[7], channel, *scales, down, inside)
