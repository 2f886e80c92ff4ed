"""The weight gradient of a convolution as an implicit matrix product.

A program owns a tile of the gradient and adds all pixels of the client in one order: sums are not
split, so that a client's bits follow from the shapes alone.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, strided, tl
from .conv_correlate import NARROW, WARPS
from .conv_offsets import Side, covering, pointwise, unfolded, within
from .conv_windows import Pooled, put_back
from .sums import Squares, store_squares
from .tiles import ROUGH, dot, dot_precision, fold, multiple, unit


def weight_gradient(
    x: Tensor,
    dz: Tensor,
    to: Tensor,
    base: Tensor,
    alpha: Tensor,
    beta: Tensor,
    groups: int,
    sides: tuple[Side, Side],
    precision: str,
    taken: Pooled | None = None,
    partial: Squares = Squares(),  # noqa: B008 (it is immutable)
) -> None:
    """taken  if given, dz holds the numbers of its planes' largest elements"""
    down, across = sides
    clients, outputs, channels, *_ = to.shape
    rows = outputs // groups
    places = down.places * across.places
    tile = _tile(to, groups, precision, taken is not None)
    tap, tap_stride = strided(None if taken is None else taken.tap)
    launch(
        _weight_gradient,
        clients * programs(to, groups, precision, taken is not None),
        x,
        *(x, dz, tap, to, base, alpha, beta, tuple(partial)),
        (*(t.stride(0) for t in (x, dz, to, base)), tap_stride),
        *((groups, channels, rows), (down.extent * across.extent, places)),
        None if taken is None else tuple(taken.tap.shape[3:]),
        *(x.shape[1], down[:8], across[:8]),
        TAPS_H=down.taps,
        TAPS_W=across.taps,
        POINTWISE=pointwise(sides),
        TAKEN=None if taken is None else taken.sides,
        UNIT=unit(x, places) if taken is not None else min(unit(t, places) for t in (x, dz)),
        PRECISION=dot_precision(precision, x),
        **tile,
    )


def programs(to: Tensor, groups: int, precision: str, pooled: bool) -> int:
    """How many of `_weight_gradient` write a client's gradient `[K, O, C / groups, kh, kw]`."""
    tile = _tile(to, groups, precision, pooled)
    rows, terms = to.shape[1] // groups, to[0, 0].numel()
    return groups * -(-rows // tile["BLOCK_M"]) * -(-terms // tile["BLOCK_R"])


def _tile(to: Tensor, groups: int, precision: str, pooled: bool) -> dict[str, int]:
    """Sizes of a tile of `_weight_gradient`, and warps: what covers a small result, else most.

    Places of windows take registers of their own: wider tiles would spill.
    """
    rows, terms, precision = to.shape[1] // groups, to[0, 0].numel(), dot_precision(precision, to)
    if rows <= NARROW:
        return dict(BLOCK_M=1, BLOCK_R=16, BLOCK_P=128, num_warps=WARPS)
    height, width = covering(rows, (16, 32, 64)), covering(terms, (32,) if pooled else (32, 64))
    pixels = 32 if precision in ROUGH else 16
    return dict(BLOCK_M=height, BLOCK_R=width, BLOCK_P=pixels, num_warps=WARPS)


@jit
def _weight_gradient(
    source: tl.tensor,  # [K, B, groups * channels, height, width]
    dz: tl.tensor,  # [K, B, groups * rows, out height, out width]
    which: tl.tensor,  # as dz if TAKEN, else None
    to: tl.tensor,  # [K, groups * rows, channels * taps]
    base: tl.tensor,  # the same
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    partial: tl.tuple,  # see `store_squares`
    strides: tl.tuple,  # over K, of source, dz, to, base, tap
    sizes: tl.tuple,  # groups, channels and rows in a group
    areas: tl.tuple,  # of a source image, of an out image
    windows: tl.tuple,  # down and across a plane, or None
    batch: tl.tensor,
    down: tl.tuple,  # the first eight numbers of `Side`
    across: tl.tuple,
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    POINTWISE: tl.constexpr,
    TAKEN: tl.constexpr,  # sides of dz's windows, see `conv_windows`
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    """A tile [rows, (channel, tap)] of `beta base + alpha dz @ unfolded source^T`."""
    groups, channels, rows = sizes
    area, places = areas
    places = multiple(places, UNIT)
    if POINTWISE:
        area = places
    pixels = batch * places
    terms = channels * TAPS_H * TAPS_W
    row_tiles = tl.cdiv(rows, BLOCK_M)
    tiles = row_tiles * tl.cdiv(terms, BLOCK_R)
    tile = tl.program_id(0) % tiles
    g = tl.program_id(0) // tiles % groups
    k = (tl.program_id(0) // (tiles * groups)).to(tl.int64)
    m = tile % row_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    r = tile // row_tiles * BLOCK_R + tl.arange(0, BLOCK_R)
    offset, tap_y, tap_x = unfolded(r, area, down, across, TAPS_H, TAPS_W)
    channel = g * rows + m
    given = dz + k * strides[1] + (channel * places)[:, None]
    values = source + k * strides[0] + g * channels * area + offset[:, None]
    sums = tl.zeros(
        (BLOCK_R if BLOCK_M == 1 else BLOCK_M, BLOCK_P if BLOCK_M == 1 else BLOCK_R),
        source.dtype.element_ty,
    )
    for start in range(0, pixels, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        image = (p // places).to(tl.int64)
        place = p % places
        row = place // across[4]
        column = place % across[4]
        y = row * down[1] + down[2]
        x = column * across[1] + across[2]
        pixel = place if POINTWISE else y * across[0] + x
        mask = (r < terms)[:, None] & (p < pixels)[None, :]
        if not POINTWISE:
            mask &= within(y[None, :], x[None, :], tap_y[:, None], tap_x[:, None], down, across)
        here = image * (groups * channels) * area + pixel
        terms_of = tl.load(values + here[None, :], mask, other=0.0)
        kept = (m < rows)[:, None] & (p < pixels)[None, :]
        if TAKEN is None:
            there = image * (groups * rows) * places + place
            factors = tl.load(given + there[None, :], kept, other=0.0)
        else:
            plane = (image * (groups * rows))[None, :] + channel[:, None]
            factors = put_back(
                dz + k * strides[1],
                which + k * strides[4],
                plane * (windows[0] * windows[1]),
                row[None, :],
                column[None, :],
                windows,
                kept,
                TAKEN,
            )
        if BLOCK_M == 1:
            sums += factors * terms_of
        else:
            sums = dot(factors, tl.trans(terms_of), sums, PRECISION)
    if BLOCK_M == 1:
        gradient = tl.sum(sums, axis=1)[None, :]
    else:
        gradient = sums
    place = (channel * terms)[:, None] + r[None, :]
    kept = (m < rows)[:, None] & (r < terms)[None, :]
    here = base + k * strides[3] + place
    result = fold(gradient, here, kept, tl.load(alpha + k), tl.load(beta + k))
    store_squares(partial, k, g * tiles + tile, result, kept)
    tl.store(to + k * strides[2] + place, result, kept)
