"""Gram matrices of thin factors `[K, B, n]`, B small, in Triton: products over pieces of n.

One program per client would leave most of the device idle: columns are cut into pieces, each a
program's, and whoever reads the matrix adds its pieces in their order.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .common import jit, launch, strided, tl
from .tiles import covering, dot, dot_precision, multiple, tile, unit

PROGRAMS = 16  # of a client, where it has so much work: ten clients fill 132 multiprocessors
SIDES = {4: (16, 32), 8: (16,)}  # of a tile of the matrix, by element size: as in `products.py`
DEPTHS = {4: 64, 8: 32}  # columns of a product
WARPS = 4


class Pieces(NamedTuple):
    """What `gram_pieces` leaves: matrices `[K, count, B, B]`, those of the first pair first."""

    matrices: Tensor
    first: int

    @property
    def all(self) -> int:
        """How many of both pairs."""
        return self.matrices.shape[1]


def gram_pieces(pairs: list[tuple[Tensor, Tensor]], precision: str) -> Pieces:
    """`a b^T` of one or two pairs a, b `[K, B, n]`, in pieces along n."""
    like = pairs[0][0]
    clients, batch = like.shape[:2]
    how = dot_precision(precision, like)
    side, depth = covering(batch, SIDES[like.element_size()]), DEPTHS[like.element_size()]
    depth = min(depth, 1024 // side) if how == "tf32x3" else depth  # three products: registers
    across = -(-batch // side)
    widths = [a.shape[2] for a, _ in pairs]
    share = -(-sum(widths) * across * across // PROGRAMS)
    piece = max(2, -(-share // depth)) * depth
    counts = [max(1, -(-width // piece)) for width in widths]
    matrices = like.new_empty(clients, sum(counts), batch, batch)
    flat = [(*strided(a), *strided(b), a.shape[2]) for a, b in pairs]
    launch(
        _pieces,
        clients * across * across * sum(counts),
        like,
        *(flat[0], flat[-1], matrices, clients, batch, piece),
        UNITS=tuple(min(unit(t, t.shape[2]) for t in pair) for pair in (pairs[0], pairs[-1])),
        COUNTS=(counts[0], sum(counts)),
        PRECISION=how,
        BLOCK=(side, depth),
        num_warps=WARPS,
    )
    return Pieces(matrices, counts[0])


@jit
def _piece(
    pair: tl.tuple,
    k: tl.tensor,
    m: tl.tensor,
    n: tl.tensor,
    start: tl.tensor,
    piece: tl.tensor,
    batch: tl.tensor,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """A tile of `a b^T` over `piece` columns. pair: a, its stride over K, b, its stride, width."""
    a = pair[0] + k * multiple(pair[1], UNIT)
    b = pair[2] + k * multiple(pair[3], UNIT)
    z = tl.zeros((BLOCK[0], BLOCK[0]), pair[0].dtype.element_ty)
    for first in range(start, tl.minimum(start + piece, pair[4]), BLOCK[1]):
        r = first + tl.arange(0, BLOCK[1])
        left = tile(a, m[:, None], r[None, :], batch, pair[4], UNIT)
        right = tile(b, n[None, :], r[:, None], batch, pair[4], UNIT)
        z = dot(left, right, z, PRECISION)
    return z


@jit(do_not_specialize=["clients"])
def _pieces(
    one: tl.tuple,  # see `_piece`
    other: tl.tuple,
    out: tl.tensor,  # [K, COUNTS[1], B, B]
    clients: tl.tensor,
    batch: tl.tensor,
    piece: tl.tensor,
    UNITS: tl.constexpr,
    COUNTS: tl.constexpr,  # pieces of `one`, of both
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # side, columns of a product
) -> None:
    """One program per client, tile and piece."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    index = tl.program_id(0) // clients % COUNTS[1]
    place = tl.program_id(0) // clients // COUNTS[1]
    down = tl.cdiv(batch, BLOCK[0])
    m = place % down * BLOCK[0] + tl.arange(0, BLOCK[0])
    n = place // down * BLOCK[0] + tl.arange(0, BLOCK[0])
    if index < COUNTS[0]:
        start = index * piece
        z = _piece(one, k, m, n, start, piece, batch, UNITS[0], PRECISION, BLOCK)
    else:
        start = (index - COUNTS[0]) * piece
        z = _piece(other, k, m, n, start, piece, batch, UNITS[1], PRECISION, BLOCK)
    to = out + (k * COUNTS[1] + index) * batch * batch + m[:, None] * batch + n[None, :]
    tl.store(to, z, (m[:, None] < batch) & (n[None, :] < batch))


@jit
def piece_sum(
    pieces: tl.tensor, step: tl.tensor, mask: tl.tensor, COUNT: tl.constexpr
) -> tl.tensor:
    """The sum of COUNT matrices `step` apart where mask, in their order. pieces: pointers."""
    z = tl.load(pieces, mask, other=0.0)
    for index in tl.static_range(1, COUNT):
        z += tl.load(pieces + index * step, mask, other=0.0)
    return z
