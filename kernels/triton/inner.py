"""Sums over two Gram matrices that come in pieces, in Triton."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, strided, tl
from .sums import slots
from .thin import Pieces, piece_sum
from .tiles import multiple, unit

BLOCK, WARPS = 1024, 4


def inner(pieces: Pieces, ones: float, gram: Tensor) -> Tensor:
    """Write the first Gram matrix, `ones` added; sums with the second, and of magnitudes.

    Returns `[2, K, n]` float64; a client's add up to those of the whole matrices.
    """
    clients, size = gram.shape[0], gram[0].numel()
    count = -(-size // BLOCK)
    sums = slots(gram, 2, clients, count)
    launch(
        _inner,
        clients * count,
        gram,
        *(pieces.matrices, *strided(gram), sums, clients, size, ones),
        COUNTS=(pieces.first, pieces.all),
        UNIT=unit(gram, size),
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return sums


@jit(do_not_specialize=["clients"])
def _inner(
    pieces: tl.tensor,  # [K, COUNTS[1], B, B]
    gram: tl.tensor,  # [K, B, B]
    gram_stride: tl.tensor,
    sums: tl.tensor,  # [2, K, n]
    clients: tl.tensor,
    size: tl.tensor,  # B B
    ones: tl.float64,
    COUNTS: tl.constexpr,  # pieces of the first matrix, of both
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per client and block of the matrices' elements."""
    size = multiple(size, UNIT)
    k = (tl.program_id(0) % clients).to(tl.int64)
    block = tl.program_id(0) // clients
    here = block * BLOCK + tl.arange(0, BLOCK)
    inside = here < size
    own = pieces + k * COUNTS[1] * size + here
    a = piece_sum(own, size, inside, COUNTS[0]) + tl.full((), ones, gram.dtype.element_ty)
    b = piece_sum(own + COUNTS[0] * size, size, inside, COUNTS[1] - COUNTS[0])
    tl.store(gram + k * multiple(gram_stride, UNIT) + here, a, inside)
    terms = tl.where(inside, a.to(tl.float64) * b.to(tl.float64), 0.0)
    slot = sums + k * tl.cdiv(size, BLOCK) + block
    tl.store(slot, tl.sum(terms, axis=0))
    tl.store(slot + clients.to(tl.int64) * tl.cdiv(size, BLOCK), tl.sum(tl.abs(terms), axis=0))
