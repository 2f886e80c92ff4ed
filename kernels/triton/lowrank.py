"""`ghost`, `joined`, `lowrank` in Triton; `reach` is in `reach.py`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .common import jit, launch, strided, tl
from .formed import Added, formed
from .functions import activate
from .inner import inner
from .reach import doubtful, reach
from .thin import gram_pieces, piece_sum
from .tiles import covering, dot, dot_precision, multiple, tile, unit

__all__ = ["ghost", "joined", "lowrank", "reach"]

SIDES = {4: (16, 32, 64), 8: (16, 32)}  # of a tile of `lowrank`'s result, by element size
DEPTH, WARPS = 16, 4


def ghost(x: Tensor, d: Tensor, ones: float, gram: Tensor, squares: Tensor, precision: str) -> None:
    """`ghost` in Triton: the pieces of both Gram matrices, what they add up to, cancelled norms."""
    sums = inner(gram_pieces([(x, x), (d, d)], precision), ones, gram)
    formed(x, d, ones, Added(), sums, precision, squares)


def joined(
    x: Tensor,
    d: Tensor,
    ones: float,
    add_weight: Tensor,
    add_bias: Tensor | None,
    known: Sequence[Tensor],
    added: Sequence[Tensor],
    limit: float,
    squares: Tensor,
    precision: str,
) -> Tensor:
    """`joined` in Triton: gradients are formed tile by tile, for clients above the limit."""
    sums = doubtful(known, added, limit)
    formed(x, d, ones, Added(add_weight, add_bias), sums, precision, squares)
    return squares


def lowrank(
    x: Tensor,
    u: Tensor,
    v: Tensor,
    scale: Tensor,
    ones: float,
    gram: Tensor | None,
    base: Tensor,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`lowrank` in Triton: the pieces of `x u^T`, then all else."""
    clients, batch, width = out.shape
    pieces = 1
    if gram is None:
        gram = gram_pieces([(x, u)], precision).matrices
        pieces = gram.shape[1]
    else:
        ones = 0.0
    sides = SIDES[out.element_size()]
    block = covering(batch, sides), covering(width, sides), DEPTH
    launch(
        _apply,
        clients * -(-batch // block[0]) * -(-width // block[1]),
        out,
        *(*strided(gram), *strided(v), *strided(base), scale, *strided(out)),
        *(clients, batch, width, ones),
        UNITS=(unit(gram, batch), min(unit(t, width) for t in (v, base, out))),
        KIND=activation,
        PIECES=pieces,
        PRECISION=dot_precision(precision, out),
        BLOCK=block,
        num_warps=2 * WARPS if max(block) == 64 else WARPS,
    )
    return out


@jit(do_not_specialize=["clients"])
def _apply(
    gram: tl.tensor,  # [K, PIECES, B, B]
    gram_stride: tl.tensor,
    v: tl.tensor,  # [K, B, N]
    v_stride: tl.tensor,
    base: tl.tensor,  # [K, B, N]
    base_stride: tl.tensor,
    scale: tl.tensor,  # [K]
    out: tl.tensor,  # [K, B, N]
    out_stride: tl.tensor,
    clients: tl.tensor,
    batch: tl.tensor,
    width: tl.tensor,
    ones: tl.float64,
    UNITS: tl.constexpr,  # gram; v, base and out
    KIND: tl.constexpr,
    PIECES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # sides along B, N; samples of a product
) -> None:
    """`act(base + scale (gram + ones) v)`, gram the sum of its pieces; a program per tile."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    place = tl.program_id(0) // clients
    down = tl.cdiv(batch, BLOCK[0])
    m = (place % down * BLOCK[0] + tl.arange(0, BLOCK[0]))[:, None]
    n = (place // down * BLOCK[1] + tl.arange(0, BLOCK[1]))[None, :]
    gram += k * multiple(gram_stride, UNITS[0])
    v += k * multiple(v_stride, UNITS[1])
    rows = multiple(batch, UNITS[0])
    z = tl.zeros((BLOCK[0], BLOCK[1]), out.dtype.element_ty)
    for start in range(0, batch, BLOCK[2]):
        r = start + tl.arange(0, BLOCK[2])
        inside = (m < batch) & (r[None, :] < rows)
        left = piece_sum(gram + m * rows + r[None, :], rows * batch, inside, PIECES)
        left += tl.full((), ones, z.dtype)  # beyond the batch, where v is 0, too
        z = dot(left, tile(v, r[:, None], n, batch, width, UNITS[1]), z, PRECISION)
    columns = multiple(width, UNITS[1])
    mask = (m < batch) & (n < columns)
    here = tl.load(base + k * multiple(base_stride, UNITS[1]) + m * columns + n, mask, other=0.0)
    z = here + tl.load(scale + k) * z
    if KIND is not None:
        z = activate(z, 0.0, KIND)
    tl.store(out + k * multiple(out_stride, UNITS[1]) + m * columns + n, z, mask)
