"""`ghost`, `joined`, `reach`, `lowrank` in Triton: products are `linear`'s, sums one program's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._args import per_client
from ..reference.lowrank import doubtful
from .activation import elementwise
from .common import jit, launch, strided, tl
from .products import multiply
from .sums import slots
from .tiles import dot, tile

CANCELLED = 1 / 512  # as in csrc/cpu/lowrank.cpp
BLOCK, TILE, WARPS = 1024, 16, 4


def ghost(x: Tensor, d: Tensor, ones: float, gram: Tensor, squares: Tensor) -> None:
    """`ghost` in Triton."""
    clients, batch, inputs = x.shape
    outputs = d.shape[2]
    products, sums = gram.new_empty(gram.shape), slots(x, clients, 2)
    _gram(x, x, ones, gram)
    multiply(d, d, products, "fp32", turned=(False, True))
    sizes = batch * batch, squares, squares.stride(0)
    launch(_inner, clients, x, *strided(gram), products, sums, *sizes, BLOCK=BLOCK, num_warps=WARPS)
    launch(
        _formed,
        clients,
        x,
        *(*strided(x), *strided(d), sums, squares, squares.stride(0), batch, inputs, outputs),
        ones,
        CANCELLED=CANCELLED,
        TILE=TILE,
        num_warps=WARPS,
    )


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
) -> Tensor:
    """`joined` in Triton: gradients are formed whole, for all clients."""
    clients, batch = x.shape[:2]
    weight = x.new_empty(add_weight.shape)
    one = per_client("alpha", 1.0, weight)
    multiply(d, x, weight, "fp32", turned=(True, False), folded=(one, one, add_weight))
    found = squared_norms(weight.flatten(1))
    if ones != 0:
        unit, bias = (
            x.new_ones(1, batch, 1).expand(clients, -1, -1),
            x.new_empty(clients, d.shape[2]),
        )
        base = None if add_bias is None else add_bias[..., None]
        beta = one if base is not None else torch.zeros_like(one)
        column = bias[..., None]
        multiply(d, unit, column, "fp32", turned=(True, False), folded=(one, beta, base))
        found = found + ones * squared_norms(bias)
    return squares.copy_(found.where(doubtful(known, added, limit), 0.0))


def squared_norms(rows: Tensor) -> Tensor:
    """Their squared norms, [K] float64."""
    return rows.double().square().sum(1)


def reach(
    squares: Sequence[Tensor],
    rho: float,
    eps: float,
    most: float,
    radii: Tensor | None,
    out: Tensor,
) -> Tensor:
    """`reach` in Triton."""
    first, second = (*squares, None)[:2]
    given = *_slots(first), *_slots(second), radii
    launch(_reach, out.shape[0], out, *given, rho, eps, most, out, LANES=64, num_warps=1)
    return out


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
) -> Tensor:
    """`lowrank` in Triton."""
    if gram is None:
        gram = x.new_empty(x.shape[0], x.shape[1], x.shape[1])
        _gram(x, u, ones, gram)
    multiply(gram, v, out, "fp32", folded=(scale, per_client("beta", 1.0, out), base))
    return out if activation is None else elementwise(out, activation, out)


def _slots(t: Tensor | None) -> tuple[Tensor | None, int, int, int]:
    """A `[K, n]` tensor, its strides and n."""
    return (None, 0, 0, 0) if t is None else (t, t.stride(0), t.stride(1), t.shape[1])


def _gram(x: Tensor, u: Tensor, ones: float, to: Tensor) -> None:
    # A row of as many numbers as a batch has samples, made once.
    bias = None if ones == 0 else per_client("ones", ones, x[0]).expand(x.shape[:2])
    multiply(x, u, to, "fp32", turned=(False, True), bias=bias)


@jit
def _inner(
    gram: tl.tensor,  # [K, B, B]
    gram_stride: tl.tensor,
    products: tl.tensor,  # [K, B, B]
    sums: tl.tensor,  # [K, 2] float64: of gram o products, and of its absolute values
    size: tl.tensor,  # B B
    squares: tl.tensor,  # [K] float64
    squares_stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Both sums of one client, in lanes; squares takes the first."""
    k = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    magnitude = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, size, BLOCK):
        here = start + lanes
        a = tl.load(gram + k * gram_stride + here, here < size, other=0.0).to(tl.float64)
        b = tl.load(products + k * size + here, here < size, other=0.0).to(tl.float64)
        total += a * b
        magnitude += tl.abs(a * b)
    result = tl.sum(total, axis=0)
    tl.store(sums + 2 * k, result)
    tl.store(sums + 2 * k + 1, tl.sum(magnitude, axis=0))
    tl.store(squares + k * squares_stride, result)


@jit
def _formed(
    x: tl.tensor,  # [K, B, I]
    x_stride: tl.tensor,
    d: tl.tensor,  # [K, B, O]
    d_stride: tl.tensor,
    sums: tl.tensor,  # [K, 2] float64
    squares: tl.tensor,  # [K] float64
    squares_stride: tl.tensor,
    batch: tl.tensor,
    inputs: tl.tensor,
    outputs: tl.tensor,
    ones: tl.float64,
    CANCELLED: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """Where the sum of a client cancels: the norm of `d^T x` and of `sum_B d`, tile by tile."""
    k = tl.program_id(0).to(tl.int64)
    x += k * x_stride
    d += k * d_stride
    if tl.load(sums + 2 * k) < CANCELLED * tl.load(sums + 2 * k + 1):
        lanes = tl.arange(0, TILE)
        whole = tl.zeros((TILE,), tl.float64)
        for o in range(0, outputs, TILE):
            column = tl.zeros((TILE,), tl.float64)
            for b in range(0, batch, TILE):
                part = tile(d, b + lanes[:, None], o + lanes[None, :], batch, outputs, 1)
                column += tl.sum(part.to(tl.float64), axis=0)
            whole += ones * column * column
            for i in range(0, inputs, TILE):
                z = tl.zeros((TILE, TILE), x.dtype.element_ty)
                for b in range(0, batch, TILE):
                    rows = b + lanes
                    left = tile(d, rows[None, :], o + lanes[:, None], batch, outputs, 1)
                    right = tile(x, rows[:, None], i + lanes[None, :], batch, inputs, 1)
                    z = dot(left, right, z, "ieee")
                wide = z.to(tl.float64)
                whole += tl.sum(wide * wide, axis=0)
        tl.store(squares + k * squares_stride, tl.sum(whole, axis=0))


@jit
def _reach(
    first: tl.tensor,  # [K, n] float64, any strides
    first_stride: tl.tensor,
    first_step: tl.tensor,
    first_count: tl.tensor,
    second: tl.tensor,  # likewise, or none
    second_stride: tl.tensor,
    second_step: tl.tensor,
    second_count: tl.tensor,
    radii: tl.tensor,  # [K] float64 in the place of rho, or none
    rho: tl.float64,
    eps: tl.float64,
    most: tl.float64,
    out: tl.tensor,  # [K]
    LANES: tl.constexpr,
) -> None:
    """One client's radius over its norm, `most` at most."""
    k = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, LANES)
    total = tl.zeros((LANES,), tl.float64)
    for start in range(0, first_count, LANES):
        n = start + lanes
        total += tl.load(first + k * first_stride + n * first_step, n < first_count, other=0.0)
    if second is not None:
        for start in range(0, second_count, LANES):
            n = start + lanes
            here = second + k * second_stride + n * second_step
            total += tl.load(here, n < second_count, other=0.0)
    norm = tl.sqrt(tl.sum(total, axis=0))
    if radii is not None:
        scale = tl.load(radii + k) / (norm + eps)
    else:
        scale = rho / (norm + eps)
    scale = tl.where(scale > most, most, scale)  # a norm that is no number stays one
    tl.store(out + k, scale.to(out.dtype.element_ty))
