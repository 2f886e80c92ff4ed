"""`multiply`: the products of `linear`, and of others, in one Triton kernel.

A program computes one tile of one client's result from the whole depth of the product: nothing is
split, so nothing is added across programs. Matrices are taken as they lie, transposed while a tile
is loaded.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, strided, tl
from .functions import activate
from .sums import Squares, store_squares
from .tiles import covering, dot, dot_precision, fold, multiple, tile, unit

SIDES = {4: (16, 32, 64), 8: (16, 32)}  # of a tile, by element size: the first that covers, or last
LONG = 32  # of a tile with a side of 16, at most: programs of 4 warps rather than half as many of 8
DEPTHS = {4: (16, 32), 8: (16,)}  # of the pieces a product is summed in, likewise
WARPS = 4


def programs(out: Tensor) -> int:
    """How many of `_product` write a client's out [K, M, N]."""
    height, width = _tile_of(out)
    return -(-out.shape[1] // height) * -(-out.shape[2] // width)


def _tile_of(out: Tensor) -> tuple[int, int]:
    """Rows and columns of out [K, M, N] that a program writes."""
    sides = SIDES[out.element_size()]
    height, width = (covering(size, sides) for size in out.shape[1:])
    if min(height, width) == sides[0]:
        return min(height, LONG), min(width, LONG)
    return height, width


def multiply(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    precision: str,
    *,
    turned: tuple[bool, bool] = (False, False),
    bias: Tensor | None = None,
    activation: str | None = None,
    folded: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
    partial: Squares = Squares(),  # noqa: B008 (it is immutable)
) -> None:
    """`out = a b` with a, b transposed where `turned`, and what `_product` does to the result."""
    clients, rows, columns = out.shape
    depth = a.shape[1] if turned[0] else a.shape[2]
    block = *_tile_of(out), covering(depth, DEPTHS[out.element_size()])
    warps = 2 * WARPS if max(block[:2]) == 64 else WARPS
    alpha, beta, base = folded
    launch(
        _product,
        clients * programs(out),
        out,
        *(*strided(a), *strided(b), out, out.stride(0), *strided(bias)),
        *(*strided(base), alpha, beta, tuple(partial), clients, rows, columns, depth),
        TURNED=turned,
        UNITS=tuple(unit(t, t.shape[2]) for t in (a, b, out)),
        KIND=activation,
        PRECISION=dot_precision(precision, out, warps),
        BLOCK=block,
        num_warps=warps,
    )


@jit(do_not_specialize=["clients"])
def _product(
    a: tl.tensor,  # [K, M, R], or [K, R, M] if turned
    a_stride: tl.tensor,
    b: tl.tensor,  # [K, R, N], or [K, N, R] if turned
    b_stride: tl.tensor,
    out: tl.tensor,  # [K, M, N]
    out_stride: tl.tensor,
    bias: tl.tensor,  # [K, N]
    bias_stride: tl.tensor,
    base: tl.tensor,  # [K, M, N]
    base_stride: tl.tensor,
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    partial: tl.tuple,  # see `store_squares`
    clients: tl.tensor,
    M: tl.tensor,
    N: tl.tensor,
    R: tl.tensor,
    TURNED: tl.constexpr,  # a, b
    UNITS: tl.constexpr,  # a, b, out
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # sides along M, N, R
) -> None:
    """act(a b + bias), or `beta base + alpha a b`; one program per client and tile, all of R."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    place = tl.program_id(0) // clients
    down = tl.cdiv(M, BLOCK[0])
    m = (place % down * BLOCK[0] + tl.arange(0, BLOCK[0]))[:, None]
    n = (place // down * BLOCK[1] + tl.arange(0, BLOCK[1]))[None, :]
    a += k * multiple(a_stride, UNITS[0])
    b += k * multiple(b_stride, UNITS[1])
    z = tl.zeros((BLOCK[0], BLOCK[1]), out.dtype.element_ty)
    for start in range(0, R, BLOCK[2]):
        r = start + tl.arange(0, BLOCK[2])
        if TURNED[0]:
            left = tile(a, r[None, :], m, R, M, UNITS[0])
        else:
            left = tile(a, m, r[None, :], M, R, UNITS[0])
        if TURNED[1]:
            right = tile(b, n, r[:, None], N, R, UNITS[1])
        else:
            right = tile(b, r[:, None], n, R, N, UNITS[1])
        z = dot(left, right, z, PRECISION)
    width = multiple(N, UNITS[2])
    mask = (m < M) & (n < width)
    if bias is not None:
        z += tl.load(bias + k * bias_stride + n, n < N, other=0.0)
    if KIND is not None:
        z = activate(z, 0.0, KIND)
    if base is not None:
        here = base + k * base_stride + m * width + n
        z = fold(z, here, mask, tl.load(alpha + k), tl.load(beta + k))
    store_squares(partial, k, place, z, mask)
    tl.store(out + k * multiple(out_stride, UNITS[2]) + m * width + n, z, mask)
