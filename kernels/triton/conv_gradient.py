"""The weight gradient of a convolution as an implicit matrix product.

A program owns a tile of the gradient and adds pixels of the client in one order. Where a client has
few tiles, its pixels are cut into parts, each with programs and memory of its own; another launch
adds the parts in their order, and puts a gradient that was summed tap by tap into the weight's
order. How many there are follows from the shapes alone, not from how many
clients are trained, so that a client's bits do too. Where a group has many channels, a tile
is of one tap: whether it falls into the margin is asked once for a pixel then.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .conv_correlate import NARROW, WARPS
from .conv_offsets import Side, margins, pointwise, side_by_side, unfolded, within
from .conv_parts import ADDED, add_parts
from .conv_taps import chunks, padded
from .sums import Squares, store_squares
from .tiles import covering, dot, dot_precision, fold, multiple

FEW = 27  # programs of a client: five clients fill the 132 multiprocessors of an H100
LEAST = 8  # blocks of pixels that a part has at least


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
    partial: Squares,
) -> None:
    """to = `beta base + alpha` the gradient `[K, O, C / groups, kh, kw]`."""
    down, across = sides
    clients, outputs, channels, *_ = to.shape
    rows = outputs // groups
    places = down.places * across.places
    tile = _tile(to, groups, precision, down.stride * across.stride > 1)
    parts = _parts(to, groups, tile, x.shape[1] * places)
    sinks = (to, base, alpha, beta, tuple(partial))
    tapped = _chunks(to, 1) > 0
    size = to[0].numel() // channels * (padded(channels) if tapped else channels)
    apart = parts > 1 or tapped
    sums = to.new_empty(clients, parts, size) if apart else to
    launch(
        _weight_gradient,
        clients * parts * _tiles(to, groups, tile),
        x,
        *(x, dz, sums, *sinks[1:]),
        tuple(t.stride(0) for t in (x, dz, sums, base)),
        *((groups, channels, rows), x.shape[1]),
        DOWN=down[:9],
        ACROSS=across[:9],
        CHUNKS=_chunks(to, tile["BLOCK_R"]),
        EVEN=channels % tile["BLOCK_R"] == 0,
        PARTS=parts,
        MARGINS=margins(sides),
        POINTWISE=pointwise(sides),
        PRECISION=dot_precision(precision, x),
        **tile,
    )
    if apart:
        add_parts(sums, *sinks, rows if tapped else 0)


def programs(to: Tensor, groups: int, precision: str, pixels: int) -> int:
    """How many write a client's gradient `[K, O, C / groups, kh, kw]`, of so many pixels."""
    tile = _tile(to, groups, precision)
    if _chunks(to, 1) or _parts(to, groups, tile, pixels) > 1:
        return -(-to[0].numel() // ADDED)
    return _tiles(to, groups, tile)


def _tiles(to: Tensor, groups: int, tile: dict[str, int]) -> int:
    """Of a client's gradient."""
    taps, columns = to[0, 0, 0].numel(), -(-to[0, 0].numel() // tile["BLOCK_R"])
    columns = taps * _chunks(to, tile["BLOCK_R"]) or columns
    return groups * -(-to.shape[1] // groups // tile["BLOCK_M"]) * columns


def _parts(to: Tensor, groups: int, tile: dict[str, int], pixels: int) -> int:
    """How often a client's pixels are cut: as often as its programs are fewer than `FEW`."""
    wanted = FEW // _tiles(to, groups, tile)
    return max(1, min(wanted, pixels // (LEAST * tile["BLOCK_P"])))


def _chunks(to: Tensor, block: int) -> int:
    """Pieces of so many channels that a tap is taken in; 0: tiles have terms of several taps."""
    return chunks(to.shape[2], block) if to[0, 0, 0].numel() > 1 else 0


def _tile(to: Tensor, groups: int, precision: str, apart: bool = False) -> dict[str, int]:
    """Sizes of a tile of `_weight_gradient`, and warps: what covers a small result, else most.

    apart  whether places are no neighbours in the source: their addresses take registers too
    """
    rows = to.shape[1] // groups
    terms = to.shape[2] if _chunks(to, 1) else to[0, 0].numel()
    if rows <= NARROW:
        return dict(BLOCK_M=1, BLOCK_R=16, BLOCK_P=128, num_warps=WARPS)
    height, width = covering(rows, (16, 32, 64)), covering(terms, (32, 64))
    # Pixels cost divisions, which more terms share; three products of small tiles would spill.
    exact, parts = (dot_precision(precision, to) == name for name in ("ieee", "tf32x3"))
    pixels = 16 if exact else 32 if parts and height < 64 else 64
    warps = 2 * WARPS if apart and height == 64 else WARPS
    return dict(BLOCK_M=height, BLOCK_R=width, BLOCK_P=pixels, num_warps=warps)


@jit
def _weight_gradient(
    source: tl.tensor,  # [K, B, groups * channels, height, width]
    dz: tl.tensor,  # [K, B, groups * rows, out height, out width]
    to: tl.tensor,  # [K, groups * rows, channels * taps]
    base: tl.tensor,  # the same
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    partial: tl.tuple,  # see `store_squares`
    strides: tl.tuple,  # over K, of source, dz, to, base
    sizes: tl.tuple,  # groups, channels and rows in a group
    batch: tl.tensor,
    DOWN: tl.constexpr,  # the first nine numbers of `Side`
    ACROSS: tl.constexpr,
    CHUNKS: tl.constexpr,  # see `_chunks`
    EVEN: tl.constexpr,  # whether the last of them is whole
    PARTS: tl.constexpr,  # of the pixels; `to` is [K, PARTS, ...] where there are several or CHUNKS
    MARGINS: tl.constexpr,  # some taps lie outside of the source
    POINTWISE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    """A tile [rows, (channel, tap)] of `beta base + alpha dz @ unfolded source^T`."""
    groups, channels, rows = sizes
    AREA: tl.constexpr = DOWN[0] * ACROSS[0]
    PLACES: tl.constexpr = DOWN[4] * ACROSS[4]
    TAPS: tl.constexpr = DOWN[8] * ACROSS[8]
    pixels = batch * PLACES
    terms = channels * TAPS
    row_tiles = tl.cdiv(rows, BLOCK_M)
    tiles = row_tiles * (tl.cdiv(terms, BLOCK_R) if CHUNKS == 0 else TAPS * CHUNKS)
    tile = tl.program_id(0) % tiles
    g = tl.program_id(0) // tiles % groups
    part = tl.program_id(0) // (tiles * groups) % PARTS
    k = (tl.program_id(0) // (tiles * groups * PARTS)).to(tl.int64)
    m = tile % row_tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    if CHUNKS == 0:
        r = tile // row_tiles * BLOCK_R + tl.arange(0, BLOCK_R)
        # Terms beyond the last are the last again, and not stored: products ask of none.
        offset, tap_y, tap_x = unfolded(tl.minimum(r, terms - 1), DOWN, ACROSS)
        held = r < terms
    else:
        tap = tile // row_tiles // CHUNKS
        r = tile // row_tiles % CHUNKS * BLOCK_R + tl.arange(0, BLOCK_R)
        tap_y = tap // ACROSS[8] * DOWN[3]
        tap_x = tap % ACROSS[8] * ACROSS[3]
        offset = r * AREA + (tap_y * ACROSS[0] + tap_x)
        held = r < channels
    channel = g * rows + m
    given = dz + k * strides[1] + (channel * PLACES)[:, None]
    values = source + k * strides[0] + g * channels * AREA + offset[:, None]
    sums = tl.zeros(
        (BLOCK_R if BLOCK_M == 1 else BLOCK_M, BLOCK_P if BLOCK_M == 1 else BLOCK_R),
        source.dtype.element_ty,
    )
    # Parts are whole blocks of pixels.
    length = tl.cdiv(tl.cdiv(pixels, BLOCK_P), PARTS) * BLOCK_P
    for start in range(part * length, tl.minimum(part * length + length, pixels), BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        image = (p // PLACES).to(tl.int64)
        place = p % PLACES
        inside = p < pixels
        kept = (m < rows)[:, None] & inside[None, :]
        there = image * (groups * rows) * PLACES + place
        factors = tl.load(given + there[None, :], kept, other=0.0)
        y = place // ACROSS[4] * DOWN[1] + DOWN[2]
        x = place % ACROSS[4] * ACROSS[1] + ACROSS[2]
        pixel = place
        if not POINTWISE:
            pixel = y * ACROSS[0] + x
        if CHUNKS > 0 and MARGINS:
            inside &= within(y, x, tap_y, tap_x, DOWN, ACROSS)
        mask = inside[None, :]
        if BLOCK_M == 1 or (CHUNKS > 0 and not EVEN):
            mask &= held[:, None]
        if CHUNKS == 0 and MARGINS:
            mask &= within(y[None, :], x[None, :], tap_y[:, None], tap_x[:, None], DOWN, ACROSS)
        here = image * (groups * channels) * AREA + pixel
        if POINTWISE and PLACES % 4 == 0:
            terms_of = tl.load(values + here[None, :], mask, other=0.0)
        else:
            terms_of = tl.load(side_by_side(values, here[None, :], 1), mask, other=0.0)
        if BLOCK_M == 1:
            sums += factors * terms_of
        else:
            sums = dot(factors, tl.trans(terms_of), sums, PRECISION)
    if BLOCK_M == 1:
        gradient = tl.sum(sums, axis=1)[None, :]
    else:
        gradient = sums
    place = (channel * terms)[:, None] + r[None, :]
    kept = (m < rows)[:, None] & held[None, :]
    if CHUNKS > 0:
        width = tl.cdiv(channels, 4) * 4
        kept = (m < rows)[:, None] & (r < width)[None, :]
        size = groups * TAPS * rows * width
        own = to + k * multiple(strides[2], 4) + part * multiple(size, 4)
        line = ((g * TAPS + tap) * rows + m) * width
        tl.store(own + line[:, None] + r[None, :], gradient, kept)
    elif PARTS > 1:
        own = to + k * strides[2] + part * (groups * rows * terms)
        tl.store(own + place, gradient, kept)
    else:
        here = base + k * strides[3] + place
        result = fold(gradient, here, kept, tl.load(alpha + k), tl.load(beta + k))
        store_squares(partial, k, g * tiles + tile, result, kept)
        tl.store(to + k * strides[2] + place, result, kept)
