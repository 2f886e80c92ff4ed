"""Correlation as an implicit matrix product: images are unfolded only in registers.

A pixel's address in the source is base(pixel) + offset(channel, tap): an element of the unfolded
matrix costs one addition. Where a group has many channels, terms are taken tap by tap: whether a
tap falls into the margin is asked once for a pixel then. Of few channels, all taps are taken
together, and the test needs both.
A program owns a tile of the result and adds its terms in one order. Clients are the slowest part
of the grid: programs side by side read the same images and weights.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, strided, tl
from .conv_offsets import Side, covering, pointwise, unfolded, within
from .conv_taps import chunks, packed, padded
from .conv_windows import Pooled, in_windows, largest
from .functions import activate
from .tiles import ROUGH, dot, dot_precision, multiple, unit

NARROW = 4  # channels of a group up to which sums of vectors replace padded matrix products
WARPS = 4


def correlate(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    sizes: tuple[int, int, int],
    sides: tuple[Side, Side],
    steps: tuple[int, ...],
    options: tuple[str | None, str],
    pooled: Pooled | None = None,
) -> None:
    """One launch of `_correlate`; steps of the weight over group, row, channel and taps.

    pooled  if given, out takes the largest elements of the windows of results
    """
    down, across = sides
    clients, batch = source.shape[:2]
    groups, channels, rows = sizes
    places = down.places * across.places if pooled is None else pooled.windows << pooled.steps
    first = down.tap * steps[3] + across.tap * steps[4]
    used = (*steps[:3], steps[3] * down.apart, steps[4] * across.apart, first)
    tapped = channels if down.taps * across.taps > 1 else 0
    if chunks(tapped, 1):
        weight = packed(weight, sizes, (down.taps, across.taps), used)
        width = padded(channels)
        used = (down.taps * across.taps * rows * width, width, 1, rows * width, 0, 0)
    strides = source.stride(0), weight.stride(0), 0 if bias is None else bias.stride(0)
    tap, tap_stride = strided(None if pooled is None else pooled.tap)
    windows = None if pooled is None else tuple(pooled.tap.shape[3:])
    area = down.extent * across.extent
    out_area = down.out_extent * across.out_extent if pooled is None else pooled.windows
    precision = dot_precision(options[1], source)
    tile = _tile(rows, batch * places, precision, chunks(tapped, 1) > 0)
    launch(
        _correlate,
        clients * groups * -(-rows // tile["BLOCK_M"]) * -(-batch * places // tile["BLOCK_P"]),
        source,
        *(source, weight, bias, out, tap, (*strides, out.stride(0), tap_stride), sizes),
        *((area, places, out_area), windows),
        *(batch, down[:8], across[:8], used),
        TAPS_H=down.taps,
        TAPS_W=across.taps,
        DENSE_WEIGHT=steps[2:] == (down.taps * across.taps, across.taps, 1),
        DENSE_OUT=down.out_step == across.out_step == 1,
        POINTWISE=pooled is None and pointwise(sides),
        WINDOW=None if pooled is None else pooled.sides,
        STEPS=0 if pooled is None else pooled.steps,
        CHUNKS=chunks(tapped, tile["BLOCK_R"]),
        UNIT=1 if pooled is not None else min(unit(t, places) for t in (source, out)),
        KIND=options[0],
        PRECISION=precision,
        **tile,
    )


def _tile(rows: int, pixels: int, precision: str, tapped: bool) -> dict[str, int]:
    """Sizes of a tile of `_correlate`, and warps: what covers a small result, else what fits.

    More would spill: sums outside of the tensor cores take twice the registers. Pieces of 32 terms
    have fewer instructions for a product under Triton 3.9, but more, and spills, under 3.6. A third
    stage of loads would spill there too where the products of a tap are multiply-adds.
    """
    if rows <= NARROW:
        return dict(BLOCK_M=1, BLOCK_P=covering(pixels, (64, 128)), BLOCK_R=16, num_warps=WARPS)
    large = precision in ROUGH and rows > 32
    width = covering(pixels, (32, 64, 128) if large else (32, 64))
    height = covering(rows, (16, 32, 64))
    stages = 2 if tapped and precision not in ROUGH else 3
    tile = dict(BLOCK_M=height, BLOCK_P=width, BLOCK_R=16)
    return tile | dict(num_warps=WARPS, num_stages=stages)


@jit
def _correlate(
    source: tl.tensor,  # [K, B, groups * channels, height, width]
    weight: tl.tensor,  # [K, ...], addressed by `steps`
    bias: tl.tensor,  # [K, groups * rows] or None
    out: tl.tensor,  # [K, B, groups * rows, out height, out width]
    places_of: tl.tensor,  # taps of maxima, as out, if it is pooled; else None
    strides: tl.tuple,  # over K, of these five
    sizes: tl.tuple,  # groups, channels and rows (of the result) in a group
    areas: tl.tuple,  # of a source image, of this launch's places, of an out image
    windows: tl.tuple,  # down and across a plane of results, or None
    batch: tl.tensor,
    down: tl.tuple,  # the first eight numbers of `Side`
    across: tl.tuple,
    steps: tl.tuple,  # of the weight: group, row, channel, tap down (or next), right; its first tap
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    DENSE_WEIGHT: tl.constexpr,  # rows of (channel, tap) are contiguous
    DENSE_OUT: tl.constexpr,  # this launch computes every place of the result
    POINTWISE: tl.constexpr,  # places are the source's own pixels
    WINDOW: tl.constexpr,  # sides of the results' windows, see `conv_windows`; else None
    STEPS: tl.constexpr,
    CHUNKS: tl.constexpr,  # see `chunks`
    UNIT: tl.constexpr,  # see `unit`, for runs of places
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> None:
    """A tile [rows, pixels] of one client's group: `act(weight @ unfolded source + bias)`."""
    groups, channels, rows = sizes
    area, places, out_area = areas
    if DENSE_OUT and WINDOW is None:
        places = multiple(places, UNIT)
        out_area = places
    if POINTWISE:
        area = places
    pixels = batch * places
    terms = channels * TAPS_H * TAPS_W
    row_tiles = tl.cdiv(rows, BLOCK_M)
    tiles = row_tiles * tl.cdiv(pixels, BLOCK_P)
    tile = tl.program_id(0) % tiles
    g = tl.program_id(0) // tiles % groups
    k = (tl.program_id(0) // (tiles * groups)).to(tl.int64)
    m = tile % row_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    p = tile // row_tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    image = (p // places).to(tl.int64)
    place = p % places
    if WINDOW is None:
        row = place // across[4]
        column = place % across[4]
        held = p < pixels
    else:
        row, column, held = in_windows(place, windows[1], WINDOW, STEPS)
        held &= p < pixels
    y = row * down[1] + down[2]
    x = column * across[1] + across[2]
    pixel = place if POINTWISE else y * across[0] + x
    plane = (image * groups + g) * channels * area
    base = source + k * strides[0] + plane + pixel
    own = weight + k * multiple(strides[1], 4 if CHUNKS > 0 else 1) + steps[5]
    own += g * multiple(steps[0], 4 if CHUNKS > 0 else 1)
    total = tl.zeros((BLOCK_M, BLOCK_P), source.dtype.element_ty)
    if CHUNKS > 0:
        tap = 0
        first = 0
        for _ in range(TAPS_H * TAPS_W * CHUNKS):
            c = first + tl.arange(0, BLOCK_R)
            tap_y = tap // TAPS_W * down[3]
            tap_x = tap % TAPS_W * across[3]
            inside = held & within(y, x, tap_y, tap_x, down, across)
            mask = (c < channels)[:, None] & inside[None, :]
            here = base + (tap_y * across[0] + tap_x)
            values = tl.load(here[None, :] + (c * area)[:, None], mask, other=0.0)
            width = multiple(steps[1], 4)
            kept = (m < rows)[:, None] & (c < width)[None, :]
            there = own + tap * (rows * width) + (m * width)[:, None]
            factors = tl.load(there + c[None, :], kept, other=0.0)
            total = _added(factors, values, total, PRECISION)
            first += BLOCK_R
            tap += tl.where(first < channels, 0, 1)
            first = tl.where(first < channels, first, 0)
    else:
        for start in range(0, terms, BLOCK_R):
            r = start + tl.arange(0, BLOCK_R)
            mask = (r < terms)[:, None] & held[None, :]
            if POINTWISE:
                values = tl.load(base[None, :] + (r * area)[:, None], mask, other=0.0)
            else:
                offset, tap_y, tap_x = unfolded(r, area, down, across, TAPS_H, TAPS_W)
                mask &= within(y[None, :], x[None, :], tap_y[:, None], tap_x[:, None], down, across)
                values = tl.load(base[None, :] + offset[:, None], mask, other=0.0)
            term = r
            if not DENSE_WEIGHT:
                tap = r % (TAPS_H * TAPS_W)
                term = r // (TAPS_H * TAPS_W) * steps[2]
                term += tap // TAPS_W * steps[3] + tap % TAPS_W * steps[4]
            kept = (m < rows)[:, None] & (r < terms)[None, :]
            factors = tl.load(own + (m * steps[1])[:, None] + term[None, :], kept, other=0.0)
            total = _added(factors, values, total, PRECISION)
    channel = g * rows + m
    if bias is not None:
        total += tl.load(bias + k * strides[2] + channel, m < rows, other=0.0)[:, None]
    total = activate(total, 0.0, KIND)
    if WINDOW is not None:
        total, taps = largest(total, held[None, :], STEPS)
        p = tile // row_tiles * (BLOCK_P >> STEPS) + tl.arange(0, BLOCK_P >> STEPS)
        image = (p // out_area).to(tl.int64)
        place = p % out_area
        pixels = batch * out_area
    target = place
    if not DENSE_OUT:
        row = place // across[4] * down[5] + down[6]
        target = row * across[7] + place % across[4] * across[5] + across[6]
    to = (image * (groups * rows) * out_area + target)[None, :] + (channel * out_area)[:, None]
    kept = (m < rows)[:, None] & (p < pixels)[None, :]
    tl.store(out + k * strides[3] + to, total, kept)
    if WINDOW is not None:
        tl.store(places_of + k * strides[4] + to, taps.to(tl.uint8), kept)


@jit
def _added(
    factors: tl.tensor, values: tl.tensor, total: tl.tensor, PRECISION: tl.constexpr
) -> tl.tensor:
    """`total + factors @ values`."""
    if total.shape[0] == 1:
        total += tl.sum(tl.trans(factors) * values, axis=0)[None, :]
    else:
        total = dot(factors, values, total, PRECISION)
    return total
