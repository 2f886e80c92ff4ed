"""Correlation as an implicit matrix product: images are unfolded only in registers.

A pixel's address in the source is base(pixel) + offset(channel, tap): an element of the unfolded
matrix costs one addition. Where a group has many channels, terms are taken tap by tap: whether a
tap falls into the margin is asked once for a pixel then. Of few channels, all taps are taken
together, and the test needs both. Without a margin nothing is asked. Sizes are constants of the
compiled kernel: divisions by them are cheap, and channels lie at constant distances.
A program owns a tile of the result and adds its terms in one order. Clients are the slowest part
of the grid: programs side by side read the same images and weights.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, strided, tl
from .conv_offsets import Side, margins, pointwise, side_by_side, unfolded, within
from .conv_taps import chunks, packed, padded
from .conv_windows import Pooled, in_windows, largest
from .functions import activate
from .tiles import covering, dot, dot_precision, multiple, tf32

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
    taps = down.taps, across.taps
    first = down.tap * steps[3] + across.tap * steps[4]
    used = (*steps[:3], steps[3] * down.apart, steps[4] * across.apart, first)
    tapped = channels if taps != (1, 1) else 0
    if chunks(tapped, 1):
        weight, width = packed(weight, sizes, taps, used), padded(channels)
        used = (taps[0] * taps[1] * rows * width, width, 1, rows * width, 0, 0)
    strides = source.stride(0), weight.stride(0), 0 if bias is None else bias.stride(0)
    tap, tap_stride = strided(None if pooled is None else pooled.tap)
    precision = dot_precision(options[1], source)
    wide = source.element_size() == 8 or down.out_step * across.out_step > 1
    by_tap = chunks(tapped, 1) > 0
    outside, mixed = margins(sides), taps != (1, 1) and not by_tap
    tile = _tile(rows, batch * places, precision, wide, by_tap, mixed, outside)
    launch(
        _correlate,
        clients * groups * -(-rows // tile["BLOCK_M"]) * -(-batch * places // tile["BLOCK_P"]),
        source,
        *(source, weight, bias, out, tap, (*strides, out.stride(0), tap_stride), sizes),
        *(batch, used),
        DOWN=down[:9],
        ACROSS=across[:9],
        DENSE_WEIGHT=steps[2:] == (taps[0] * taps[1], taps[1], 1),
        MARGINS=outside,
        POINTWISE=pooled is None and pointwise(sides),
        WINDOW=None if pooled is None else pooled.sides,
        STEPS=0 if pooled is None else pooled.steps,
        CHUNKS=chunks(tapped, tile["BLOCK_R"]),
        EVEN=channels % tile["BLOCK_R"] == 0,
        KIND=options[0],
        PRECISION=precision,
        **tile,
    )


def _tile(
    rows: int,
    pixels: int,
    precision: str,
    wide: bool,
    tapped: bool,
    mixed: bool,
    outside: bool,
) -> dict[str, int]:
    """Sizes of a tile of `_correlate`, and warps: what covers a small result, else what fits.

    Pixels are the first side of the products, and Hopper's tensor cores take 64 at a time. What
    four warps, or a third stage of the pipeline, would spill takes more of them, or two stages.

    wide    whether numbers are of 8 bytes, or places lie apart in the result
    tapped  whether terms are taken tap by tap
    mixed   whether several taps are taken together
    outside  whether some lie outside of the source: which of those together do takes registers too
    """
    if rows <= NARROW:
        return dict(BLOCK_M=1, BLOCK_P=covering(pixels, (64, 128)), BLOCK_R=16, num_warps=WARPS)
    height, three = covering(rows, (16, 32, 64)), precision == "tf32x3"
    most = (64,) if three and mixed and outside and height == 64 else (64, 128)
    tile = dict(BLOCK_M=height, BLOCK_P=covering(pixels, most))
    small, exact = height == 32, precision == "ieee"
    tile["num_warps"] = 2 * WARPS if exact and (tile["BLOCK_M"] == 64 or small and wide) else WARPS
    inner = mixed and not outside
    if (small and tapped and not exact) or (height == 64 and inner and exact):
        tile["num_stages"] = 2
    return tile | dict(BLOCK_R=16)


@jit
def _correlate(
    source: tl.tensor,  # [K, B, groups * channels, height, width]
    weight: tl.tensor,  # [K, ...], addressed by `steps`
    bias: tl.tensor,  # [K, groups * rows] or None
    out: tl.tensor,  # [K, B, groups * rows, out height, out width]
    taps_of: tl.tensor,  # places of the maxima, as out, if it is pooled; else None
    strides: tl.tuple,  # over K, of these five
    sizes: tl.tuple,  # groups, channels and rows (of the result) in a group
    batch: tl.tensor,
    steps: tl.tuple,  # of the weight: group, row, channel, tap down (or next), right; its first tap
    DOWN: tl.constexpr,  # the first nine numbers of `Side`
    ACROSS: tl.constexpr,
    DENSE_WEIGHT: tl.constexpr,  # rows of (channel, tap) are contiguous
    MARGINS: tl.constexpr,  # some taps lie outside of the source
    POINTWISE: tl.constexpr,  # places are the source's own pixels
    WINDOW: tl.constexpr,  # sides of the results' windows, see `conv_windows`; else None
    STEPS: tl.constexpr,
    CHUNKS: tl.constexpr,  # see `chunks`
    EVEN: tl.constexpr,  # whether the last of them is whole
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> None:
    """A tile [pixels, rows] of one client's group: `act(weight @ unfolded source + bias)`."""
    groups, channels, rows = sizes
    AREA: tl.constexpr = DOWN[0] * ACROSS[0]
    TAPS: tl.constexpr = DOWN[8] * ACROSS[8]
    PLACES: tl.constexpr = (
        DOWN[4] * ACROSS[4]
        if WINDOW is None
        else (DOWN[4] // WINDOW[0] * (ACROSS[4] // WINDOW[1])) << STEPS
    )
    pixels = batch * PLACES
    row_tiles = tl.cdiv(rows, BLOCK_M)
    tiles = row_tiles * tl.cdiv(pixels, BLOCK_P)
    tile = tl.program_id(0) % tiles
    g = tl.program_id(0) // tiles % groups
    k = (tl.program_id(0) // (tiles * groups)).to(tl.int64)
    m = tile % row_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    p = tile // row_tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    image = (p // PLACES).to(tl.int64)
    place = p % PLACES
    held = p < pixels
    if WINDOW is None:
        row = place // ACROSS[4]
        column = place % ACROSS[4]
    else:
        row, column, elements = in_windows(place, ACROSS[4] // WINDOW[1], WINDOW, STEPS)
        held &= elements
    y = row * DOWN[1] + DOWN[2]
    x = column * ACROSS[1] + ACROSS[2]
    pixel = place
    if not POINTWISE:
        pixel = y * ACROSS[0] + x
    base = source + k * strides[0] + (image * groups + g) * channels * AREA + pixel
    own = weight + k * multiple(strides[1], 4 if CHUNKS > 0 else 1) + steps[5]
    own += g * multiple(steps[0], 4 if CHUNKS > 0 else 1)
    total = tl.zeros((BLOCK_P, BLOCK_M), source.dtype.element_ty)
    r = tl.arange(0, BLOCK_R)
    if CHUNKS > 0:
        width = multiple(steps[1], 4)
        tap = 0
        first = 0
        for _ in range(TAPS * CHUNKS):
            tap_y = tap // ACROSS[8] * DOWN[3]
            tap_x = tap % ACROSS[8] * ACROSS[3]
            here = base + (first * AREA + tap_y * ACROSS[0] + tap_x)
            mask = held[:, None]
            if MARGINS:
                mask &= within(y, x, tap_y, tap_x, DOWN, ACROSS)[:, None]
            kept = (m < rows)[:, None]
            if not EVEN:
                mask &= (first + r < channels)[None, :]
                kept &= (first + r < width)[None, :]
            values = tl.load(side_by_side(here[:, None], (r * AREA)[None, :], 0), mask, other=0.0)
            there = own + (tap * (rows * width) + first) + (m * width)[:, None]
            factors = tl.load(there + r[None, :], kept, other=0.0)
            total = _added(values, factors, total, PRECISION)
            first += BLOCK_R
            tap += tl.where(first < channels, 0, 1)
            first = tl.where(first < channels, first, 0)
    else:
        terms = channels * TAPS
        for start in range(0, terms, BLOCK_R):
            term = start + r
            offset, tap_y, tap_x = unfolded(term[None, :], DOWN, ACROSS)
            mask = held[:, None] & (term < terms)[None, :]
            if MARGINS:
                mask &= within(y[:, None], x[:, None], tap_y, tap_x, DOWN, ACROSS)
            if POINTWISE and PLACES % 4 == 0:
                values = tl.load(base[:, None] + offset, mask, other=0.0)
            else:
                values = tl.load(
                    side_by_side(base[:, None], offset, 1 if TAPS > 1 else 0), mask, other=0.0
                )
            at = term
            if not DENSE_WEIGHT:
                tap = term % TAPS
                at = term // TAPS * steps[2]
                at += tap // ACROSS[8] * steps[3] + tap % ACROSS[8] * steps[4]
            kept = (m < rows)[:, None] & (term < terms)[None, :]
            factors = tl.load(own + (m * steps[1])[:, None] + at[None, :], kept, other=0.0)
            total = _added(values, factors, total, PRECISION)
    channel = g * rows + m
    if bias is not None:
        total += tl.load(bias + k * strides[2] + channel, m < rows, other=0.0)[None, :]
    total = tl.trans(activate(total, 0.0, KIND))
    OUT_AREA: tl.constexpr = DOWN[7] * ACROSS[7] if WINDOW is None else PLACES >> STEPS
    if WINDOW is not None:
        total, taps = largest(total, held[None, :], STEPS)
        p = tile // row_tiles * (BLOCK_P >> STEPS) + tl.arange(0, BLOCK_P >> STEPS)
        image = (p // OUT_AREA).to(tl.int64)
        target = p % OUT_AREA
        pixels = batch * OUT_AREA
    else:
        target = row * DOWN[5] * ACROSS[7] + column * ACROSS[5] + (DOWN[6] * ACROSS[7] + ACROSS[6])
        if DOWN[5] * ACROSS[5] == 1:
            target = place
    at = (image * (groups * rows) * OUT_AREA + target)[None, :] + (channel * OUT_AREA)[:, None]
    kept = (m < rows)[:, None] & (p < pixels)[None, :]
    to = out + k * strides[3]
    if DOWN[5] * ACROSS[5] == 1 and OUT_AREA % 4 == 0:
        tl.store(to + at, total, kept)
    else:
        tl.store(side_by_side(to, at, 1), total, kept)
    if WINDOW is not None:
        tl.store(taps_of + k * strides[4] + at, taps.to(tl.uint8), kept)


@jit
def _added(
    values: tl.tensor, factors: tl.tensor, total: tl.tensor, PRECISION: tl.constexpr
) -> tl.tensor:
    """`total + values @ factors^T`."""
    if total.shape[1] == 1:
        total += tl.sum(values * factors, axis=1)[:, None]
    else:
        if PRECISION == "tf32":
            # As tensor cores do anyway: what passes registers need not be turned in shared memory.
            values = tf32(values, 0)
        total = dot(values, tl.trans(factors), total, PRECISION)
    return total
