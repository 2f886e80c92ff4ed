"""`gather` in Triton: a program per sample and block of elements, or plane and block of pixels."""

from __future__ import annotations

from torch import Tensor

from ..gather import Look
from .common import jit, launch, tl

BLOCK, WARPS = 1024, 4  # a plane of 32 x 32 pixels
NOTHING = (None,) * 7  # beside the samples


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
    gather_lines(bank, rows, out, (scale, shift, margin, offset, flip), sizes)


def gather_lines(
    bank: Tensor,
    rows: Tensor,
    out: Tensor,
    look: Look,
    sizes: tuple[int, int, int],
    lines: Tensor | None = None,
    beside: tuple[object, ...] = NOTHING,
) -> None:
    """`gather`; of tables rows [n, B], offset, flip a line for each client, where `lines` [K] says.

    beside  what else the launch copies: see `_copy_beside`
    """
    pixels = sizes[1] * sizes[2]
    clients, batch = out.shape[:2]
    programs = clients * batch * sizes[0] * -(-pixels // BLOCK)
    given = rows, lines, beside
    shape = bank.shape[0], batch, *sizes, out.stride(0)
    meta = dict(BLOCK=BLOCK, num_warps=WARPS)
    if look[0] is None:
        floating = out.dtype.is_floating_point
        launch(_copy, programs, out, bank, *given, out, *shape, FLOATING=floating, **meta)
    else:
        moves = look[3] is not None
        launch(_images, programs, out, bank, *given, *look, out, *shape, MOVES=moves, **meta)


@jit
def _place(
    rows: tl.tensor,
    lines: tl.tensor,
    samples: tl.tensor,
    batch: tl.tensor,
    channels: tl.tensor,
    pixels: tl.tensor,
    out_stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """(sample, its place in the tables, channel, columns, how many can be read, where out's plane
    begins)."""
    blocks = tl.cdiv(pixels, BLOCK)
    task = tl.program_id(0) // blocks  # (k, b, c), c fastest
    cols = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    slot, channel = task // channels, task % channels
    place = slot.to(tl.int64)
    if lines is not None:
        place = tl.load(lines + slot // batch) * batch + slot % batch
    sample = tl.load(rows + place)
    readable = tl.where((sample >= 0) & (sample < samples), pixels, 0)
    within = (slot % batch * channels + channel).to(tl.int64) * pixels
    start = (slot // batch).to(tl.int64) * out_stride + within
    return sample, place, channel, cols, readable, start


@jit
def _copy_beside(
    beside: tl.tuple,
    sample: tl.tensor,
    place: tl.tensor,
    samples: tl.tensor,
    batch: tl.tensor,
    programs: tl.tensor,
) -> None:
    """A sample's label by the first of its `programs`; with a client's first, its other numbers.

    beside  (labels [N], y [K, B], its stride, count [n], count [K], seeds [n], seeds [K]), the last
            two perhaps none; or `NOTHING`
    """
    labels, y, stride, count, count_now, seeds, seeds_now = beside
    slot = tl.program_id(0) // programs
    k, b = slot // batch, slot % batch
    if tl.program_id(0) % programs == 0:
        exists = (sample >= 0) & (sample < samples)
        tl.store(y + k.to(tl.int64) * stride + b, tl.load(labels + sample, exists, other=0))
        if b == 0:
            tl.store(count_now + k, tl.load(count + place // batch))
            if seeds is not None:
                tl.store(seeds_now + k, tl.load(seeds + place // batch))


@jit(do_not_specialize=["samples", "batch"])
def _copy(
    bank: tl.tensor,  # [n, size]
    rows: tl.tensor,  # [K, B] int64, or [n, B]
    lines: tl.tensor,  # [K] int64 or none
    beside: tl.tuple,
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
    sample, place, _, cols, readable, start = _place(
        rows, lines, samples, batch, channels, size, out_stride, BLOCK
    )
    if beside[0] is not None:
        _copy_beside(beside, sample, place, samples, batch, channels * tl.cdiv(size, BLOCK))
    value = tl.load(bank + sample * size + cols, cols < readable, other=0)
    if FLOATING:
        value = tl.where(cols < readable, value, float("nan"))
    tl.store(out + start + cols, value, cols < size)


@jit(do_not_specialize=["samples", "batch"])
def _images(
    bank: tl.tensor,  # [n, C, H, W] uint8
    rows: tl.tensor,  # [K, B] int64, or [n, B]
    lines: tl.tensor,  # [K] int64 or none
    beside: tl.tuple,
    scale: tl.tensor,  # [C]
    shift: tl.tensor,  # [C]
    margin: tl.tensor,  # [C]
    offset: tl.tensor,  # [K, B, 2] int32, or [n, B, 2], or none
    flip: tl.tensor,  # [K, B] uint8, or [n, B], or none
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
    sample, place, c, cols, readable, start = _place(
        rows, lines, samples, batch, channels, pixels, out_stride, BLOCK
    )
    if beside[0] is not None:
        _copy_beside(beside, sample, place, samples, batch, channels * tl.cdiv(pixels, BLOCK))
    exists = cols < readable
    inside = exists
    source = cols
    if MOVES:
        x = cols % width
        x = tl.where(tl.load(flip + place) != 0, width - 1 - x, x) + tl.load(offset + 2 * place + 1)
        y = cols // width + tl.load(offset + 2 * place)
        inside = exists & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        source = y * width + x
    plane = bank + (sample * channels + c) * pixels
    shade = tl.load(shift + c)
    value = tl.load(plane + source, inside, other=0).to(shade.dtype)
    value = tl.load(scale + c) * value + shade
    value = tl.where(inside, value, tl.load(margin + c))
    tl.store(out + start + cols, tl.where(exists, value, float("nan")), cols < pixels)
