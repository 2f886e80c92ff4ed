"""Weights tap by tap: `[K, groups, taps, rows, channels]`, so that a tap's channels are neighbours.

Convolutions of many channels take their terms so, and their gradients are summed so.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl

MANY = 16  # channels of a group from which on terms are taken tap by tap
BLOCK, WARPS = 1024, 4


def chunks(channels: int, block: int) -> int:
    """Pieces of so many channels that a tap is taken in; 0: all taps are taken together."""
    return 0 if channels < MANY else -(-channels // block)


def padded(channels: int) -> int:
    """Channels of a row tap by tap: what is read and written 16 bytes at a time."""
    return -(-channels // 4) * 4


def packed(
    weight: Tensor, sizes: tuple[int, int, int], taps: tuple[int, int], steps: tuple[int, ...]
) -> Tensor:
    """The weight tap by tap, padded with zeros: [K or 1, elements].

    sizes: groups, channels and rows in a group; taps down and across; steps of the weight over
    group, row, channel, tap down and across, and to its first tap
    """
    groups, channels, rows = sizes
    size = groups * taps[0] * taps[1] * rows * padded(channels)
    shared = weight.stride(0) == 0
    out = weight.new_empty(1 if shared else len(weight), size)
    launch(
        _pack,
        len(out) * -(-size // BLOCK),
        out,
        *(weight, out, (weight.stride(0), out.stride(0)), (channels, rows, padded(channels))),
        *(steps, size),
        TAPS_H=taps[0],
        TAPS_W=taps[1],
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return out.expand(len(weight), size)


@jit
def _pack(
    weight: tl.tensor,  # [K, ...], addressed by `steps`
    out: tl.tensor,  # [K, groups, taps, rows, width]
    strides: tl.tuple,  # over K
    sizes: tl.tuple,  # channels and rows of a group, and channels with padding
    steps: tl.tuple,
    size: tl.tensor,
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """A block of `out`."""
    channels, rows, width = sizes
    blocks = tl.cdiv(size, BLOCK)
    k = (tl.program_id(0) // blocks).to(tl.int64)
    i = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    c = i % width
    m = i // width % rows
    tap = i // width // rows % (TAPS_H * TAPS_W)
    g = i // width // rows // (TAPS_H * TAPS_W)
    at = g * steps[0] + m * steps[1] + c * steps[2] + steps[5]
    at += tap // TAPS_W * steps[3] + tap % TAPS_W * steps[4]
    values = tl.load(weight + k * strides[0] + at, (i < size) & (c < channels), other=0.0)
    tl.store(out + k * strides[1] + i, values, i < size)
