"""Correlation as an implicit matrix product: images are unfolded only in registers.

A pixel's address in the source is base(pixel) + offset(channel, tap): an element of the unfolded
matrix costs one addition, and only the test whether its tap falls into the margin needs both.
A program owns a tile of the result and adds its terms in one order. Clients are the slowest part
of the grid: programs side by side read the same images and weights.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from torch import Tensor

from ._conv_sides import Side, covering, pointwise, unfolded, within
from ._triton import dot, dot_precision, jit, launch, multiple, tl, unit
from ._triton_functions import activate

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
) -> None:
    """One launch of `correlate`; steps of the weight over group, row, channel and taps."""
    down, across = sides
    clients, batch = source.shape[:2]
    groups, channels, rows = sizes
    places = down.places * across.places
    first = down.tap * steps[3] + across.tap * steps[4]
    used = (*steps[:3], steps[3] * down.apart, steps[4] * across.apart, first)
    strides = source.stride(0), weight.stride(0), 0 if bias is None else bias.stride(0)
    precision = dot_precision(options[1], source)
    tile = _tile(rows, batch * places, precision)
    launch(
        _correlate,
        clients * groups * -(-rows // tile["BLOCK_M"]) * -(-batch * places // tile["BLOCK_P"]),
        source,
        *(source, weight, bias, out, (*strides, out.stride(0)), sizes),
        *((down.extent * across.extent, places, down.out_extent * across.out_extent),),
        *(batch, down[:8], across[:8], used),
        TAPS_H=down.taps,
        TAPS_W=across.taps,
        DENSE_WEIGHT=steps[2:] == (down.taps * across.taps, across.taps, 1),
        DENSE_OUT=down.out_step == across.out_step == 1,
        POINTWISE=pointwise(sides),
        UNIT=min(unit(t, places) for t in (source, out)),
        KIND=options[0],
        PRECISION=precision,
        **tile,
    )


def _tile(rows: int, pixels: int, precision: str) -> dict[str, int]:
    """Sizes of a tile of `_correlate`, and warps: what covers a small result, else what fits.

    More would spill: sums outside of the tensor cores take twice the registers.
    """
    if rows <= NARROW:
        return dict(BLOCK_M=1, BLOCK_P=covering(pixels, (64, 128)), BLOCK_R=16, num_warps=WARPS)
    large = precision == "tf32" and rows > 32
    width = covering(pixels, (32, 64, 128) if large else (32, 64))
    height = covering(rows, (16, 32, 64))
    return dict(BLOCK_M=height, BLOCK_P=width, BLOCK_R=16, num_warps=WARPS)


@jit
def _correlate(
    source,  # [K, B, groups * channels, height, width]
    weight,  # [K, ...], addressed by `steps`
    bias,  # [K, groups * rows] or None
    out,  # [K, B, groups * rows, out height, out width]
    strides,  # over K, of these four
    sizes,  # groups, channels and rows (of the result) in a group
    areas,  # of a source image, of this launch's places, of an out image
    batch,
    down,  # the first eight numbers of `Side`
    across,
    steps,  # of the weight, over (group, row, channel, tap down, tap right), and its first tap
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    DENSE_WEIGHT: tl.constexpr,  # rows of (channel, tap) are contiguous
    DENSE_OUT: tl.constexpr,  # this launch computes every place of the result
    POINTWISE: tl.constexpr,  # places are the source's own pixels
    UNIT: tl.constexpr,  # see `unit`, for runs of places
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """A tile [rows, pixels] of one client's group: `act(weight @ unfolded source + bias)`."""
    groups, channels, rows = sizes
    area, places, out_area = areas
    if DENSE_OUT:
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
    y = place // across[4] * down[1] + down[2]
    x = place % across[4] * across[1] + across[2]
    pixel = place if POINTWISE else y * across[0] + x
    base = source + k * strides[0] + (image * groups + g) * channels * area + pixel
    own = weight + k * strides[1] + g * steps[0] + steps[5]
    total = tl.zeros((BLOCK_M, BLOCK_P), source.dtype.element_ty)
    for start in range(0, terms, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        mask = (r < terms)[:, None] & (p < pixels)[None, :]
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
        if BLOCK_M == 1:
            total += tl.sum(tl.trans(factors) * values, axis=0)[None, :]
        else:
            total = dot(factors, values, total, PRECISION)
    channel = g * rows + m
    if bias is not None:
        total += tl.load(bias + k * strides[2] + channel, m < rows, other=0.0)[:, None]
    target = place
    if not DENSE_OUT:
        row = place // across[4] * down[5] + down[6]
        target = row * across[7] + place % across[4] * across[5] + across[6]
    to = out + k * strides[3] + image * (groups * rows) * out_area + target
    kept = (m < rows)[:, None] & (p < pixels)[None, :]
    tl.store(to[None, :] + (channel * out_area)[:, None], activate(total, 0.0, KIND), kept)
