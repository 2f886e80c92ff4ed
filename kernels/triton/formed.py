"""Norms of dense layers' gradients in Triton, formed where the sums of Gram matrices cancel."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .common import jit, launch, strided, tl
from .sums import slots, total
from .thin import PROGRAMS
from .tiles import covering, dot, dot_precision, tile, unit

CANCELLED = 1 / 512  # as in csrc/cpu/lowrank.cpp
SIDES = {4: (16, 32, 64), 8: (16, 32)}  # of a tile of the gradient, by element size
DEPTH, WARPS = 16, 4


class Added(NamedTuple):
    """What joins a gradient `[K, O, I]` and its bias' `[K, O]`."""

    weight: Tensor | None = None
    bias: Tensor | None = None


def formed(
    x: Tensor, d: Tensor, ones: float, added: Added, sums: Tensor, precision: str, squares: Tensor
) -> None:
    """squares `[K]` = sums[0], or, where so little is left of sums[1], the gradient's norm squared.

    That is `|d^T x + weight|^2 + ones |sum_B d + bias|^2`, tile by tile. sums `[2, K, n]` float64
    """
    clients, batch, inputs = x.shape
    outputs, count = d.shape[2], sums.shape[2]
    sides = SIDES[x.element_size()]
    block = covering(outputs, sides), covering(inputs, sides), DEPTH
    down, across = -(-outputs // block[0]), -(-inputs // block[1])
    span = max(1, -(-across * down // PROGRAMS))
    programs = down * -(-across // span)
    partial = slots(x, clients, programs)
    launch(
        _formed,
        clients * programs,
        x,
        *(*strided(x), *strided(d), *strided(added.weight), *strided(added.bias)),
        *(sums, partial, programs, clients, batch, inputs, outputs, count, span * block[1], ones),
        CANCELLED=CANCELLED,
        UNITS=(unit(x, inputs), unit(d, outputs)),
        PRECISION=dot_precision(precision, x),
        BLOCK=block,
        num_warps=2 * WARPS if max(block) == sides[-1] else WARPS,
    )
    given = sums, count, partial, programs, squares, squares.stride(0), clients
    launch(_settle, clients, x, *given, CANCELLED=CANCELLED, num_warps=WARPS)


@jit
def _left(
    sums: tl.tensor, k: tl.tensor, clients: tl.tensor, count: tl.tensor, CANCELLED: tl.constexpr
) -> tuple[tl.tensor, ...]:
    """A client's sum, and whether too little of its terms' magnitudes is left of it."""
    left = total(sums + k * count, count)
    return left, left < CANCELLED * total(sums + (clients + k) * count, count)


@jit
def _row_squares(
    x: tl.tensor,
    d: tl.tensor,
    weight: tl.tensor,
    o: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    batch: tl.tensor,
    inputs: tl.tensor,
    outputs: tl.tensor,
    UNITS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Of rows o of `d^T x + weight`, the squares of columns [start, stop), added in float64."""
    squares = tl.zeros((BLOCK[0],), tl.float64)
    for first in range(start, stop, BLOCK[1]):
        i = first + tl.arange(0, BLOCK[1])[None, :]
        z = tl.zeros((BLOCK[0], BLOCK[1]), x.dtype.element_ty)
        for b in range(0, batch, BLOCK[2]):
            r = b + tl.arange(0, BLOCK[2])
            left = tile(d, r[None, :], o[:, None], batch, outputs, UNITS[1])
            right = tile(x, r[:, None], i, batch, inputs, UNITS[0])
            z = dot(left, right, z, PRECISION)
        if weight is not None:
            z += tile(weight, o[:, None], i, outputs, inputs, UNITS[0])
        wide = z.to(tl.float64)
        squares += tl.sum(wide * wide, axis=1)
    return squares


@jit
def _bias_squares(
    d: tl.tensor,
    bias: tl.tensor,
    o: tl.tensor,
    batch: tl.tensor,
    outputs: tl.tensor,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """`(sum_B d + bias)^2` of outputs o, in float64."""
    column = tl.zeros((BLOCK[0],), tl.float64)
    for b in range(0, batch, BLOCK[2]):
        r = b + tl.arange(0, BLOCK[2])
        part = tile(d, r[None, :], o[:, None], batch, outputs, 1)
        column += tl.sum(part.to(tl.float64), axis=1)
    if bias is not None:
        column += tl.load(bias + o, o < outputs, other=0.0).to(tl.float64)
    return column * column


@jit(do_not_specialize=["clients"])
def _formed(
    x: tl.tensor,  # [K, B, I]
    x_stride: tl.tensor,
    d: tl.tensor,  # [K, B, O]
    d_stride: tl.tensor,
    weight: tl.tensor,  # [K, O, I]
    weight_stride: tl.tensor,
    bias: tl.tensor,  # [K, O]
    bias_stride: tl.tensor,
    sums: tl.tensor,  # [2, K, count]
    partial: tl.tensor,  # [K, programs]
    programs: tl.tensor,
    clients: tl.tensor,
    batch: tl.tensor,
    inputs: tl.tensor,
    outputs: tl.tensor,
    count: tl.tensor,
    span: tl.tensor,  # columns of a program
    ones: tl.float64,
    CANCELLED: tl.constexpr,
    UNITS: tl.constexpr,  # x, d
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # sides along O, I, B
) -> None:
    """One program per client, BLOCK[0] rows and `span` columns; nothing where no sum cancels."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    place = tl.program_id(0) // clients
    down = tl.cdiv(outputs, BLOCK[0])
    start = place // down * span
    _, cancels = _left(sums, k, clients, count, CANCELLED)
    if cancels:
        o = place % down * BLOCK[0] + tl.arange(0, BLOCK[0])
        own = d + k * d_stride
        more = None
        if weight is not None:
            more = weight + k * weight_stride
        size = batch, inputs, outputs
        stop = tl.minimum(start + span, inputs)
        rows = x + k * x_stride
        squares = _row_squares(
            rows, own, more, o, start, stop, *size, UNITS=UNITS, PRECISION=PRECISION, BLOCK=BLOCK
        )
        if start == 0:
            beside = None
            if bias is not None:
                beside = bias + k * bias_stride
            squares += ones * _bias_squares(own, beside, o, batch, outputs, BLOCK)
        tl.store(partial + k * programs + place, tl.sum(squares, axis=0))


@jit(do_not_specialize=["clients"])
def _settle(
    sums: tl.tensor,  # [2, K, count]
    count: tl.tensor,
    partial: tl.tensor,  # [K, programs]
    programs: tl.tensor,
    squares: tl.tensor,  # [K]
    stride: tl.tensor,
    clients: tl.tensor,
    CANCELLED: tl.constexpr,
) -> None:
    """A client's sum where it stands, else what its programs have formed."""
    k = tl.program_id(0).to(tl.int64)
    found, cancels = _left(sums, k, clients, count, CANCELLED)
    if cancels:
        found = total(partial + k * programs, programs)
    tl.store(squares + k * stride, found)
