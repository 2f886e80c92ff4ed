"""`gather` in Triton: a program per sample and block of elements, or plane and block of pixels."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl

BLOCK, WARPS = 1024, 4  # a plane of 32 x 32 pixels


def gather(
    bank: Tensor,
    rows: Tensor,
    out: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    margin: Tensor | None,
    offset: Tensor | None,
    flip: Tensor | None,
    sizes: tuple[int, int, int],
) -> None:
    """`gather` in Triton."""
    pixels = sizes[1] * sizes[2]
    programs = rows.numel() * sizes[0] * -(-pixels // BLOCK)
    shape = bank.shape[0], rows.shape[1], *sizes, out.stride(0)
    meta = dict(BLOCK=BLOCK, num_warps=WARPS)
    if scale is None:
        floating = out.dtype.is_floating_point
        launch(_copy, programs, out, bank, rows, out, *shape, FLOATING=floating, **meta)
    else:
        scene, moves = (scale, shift, margin, offset, flip), offset is not None
        launch(_images, programs, out, bank, rows, *scene, out, *shape, MOVES=moves, **meta)


@jit
def _place(
    rows: tl.tensor,
    samples: tl.tensor,
    batch: tl.tensor,
    channels: tl.tensor,
    pixels: tl.tensor,
    out_stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """(sample, slot, channel, columns, how many can be read, where out's plane begins)."""
    blocks = tl.cdiv(pixels, BLOCK)
    task = tl.program_id(0) // blocks  # (k, b, c), c fastest
    cols = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    slot, channel = task // channels, task % channels
    sample = tl.load(rows + slot)
    readable = tl.where((sample >= 0) & (sample < samples), pixels, 0)
    within = (slot % batch * channels + channel).to(tl.int64) * pixels
    start = (slot // batch).to(tl.int64) * out_stride + within
    return sample, slot, channel, cols, readable, start


@jit(do_not_specialize=["samples", "batch"])
def _copy(
    bank: tl.tensor,  # [n, size]
    rows: tl.tensor,  # [K, B] int64
    out: tl.tensor,  # [K, B, size]
    samples: tl.tensor,
    batch: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_stride: tl.tensor,
    FLOATING: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per sample and block of elements."""
    size = height * width
    sample, _, _, cols, readable, start = _place(
        rows, samples, batch, channels, size, out_stride, BLOCK
    )
    value = tl.load(bank + sample * size + cols, cols < readable, other=0)
    if FLOATING:
        value = tl.where(cols < readable, value, float("nan"))
    tl.store(out + start + cols, value, cols < size)


@jit(do_not_specialize=["samples", "batch"])
def _images(
    bank: tl.tensor,  # [n, C, H, W] uint8
    rows: tl.tensor,  # [K, B] int64
    scale: tl.tensor,  # [C]
    shift: tl.tensor,  # [C]
    margin: tl.tensor,  # [C]
    offset: tl.tensor,  # [K, B, 2] int32 or none
    flip: tl.tensor,  # [K, B] uint8 or none
    out: tl.tensor,  # [K, B, C, H, W]
    samples: tl.tensor,
    batch: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_stride: tl.tensor,
    MOVES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per plane and block of pixels; byte reads hit whole sectors either way."""
    pixels = height * width
    sample, slot, c, cols, readable, start = _place(
        rows, samples, batch, channels, pixels, out_stride, BLOCK
    )
    exists = cols < readable
    inside = exists
    source = cols
    if MOVES:
        x = cols % width
        x = tl.where(tl.load(flip + slot) != 0, width - 1 - x, x) + tl.load(offset + 2 * slot + 1)
        y = cols // width + tl.load(offset + 2 * slot)
        inside = exists & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        source = y * width + x
    plane = bank + (sample * channels + c) * pixels
    shade = tl.load(shift + c)
    value = tl.load(plane + source, inside, other=0).to(shade.dtype)
    value = tl.load(scale + c) * value + shade
    value = tl.where(inside, value, tl.load(margin + c))
    tl.store(out + start + cols, tl.where(exists, value, float("nan")), cols < pixels)
