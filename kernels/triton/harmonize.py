"""`harmonize` in Triton: a program for each segment goes through all pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference.harmonize import ROUNDING
from .common import jit, launch, tl

TILE, WARPS = 128, 4


def harmonize(
    gram: Tensor, weights: Tensor, pairs: Tensor, together: bool
) -> tuple[Tensor, Tensor]:
    """See `kernels.harmonize`."""
    layers, clients, _ = gram.shape
    now, mixing = gram.clone(), torch.empty_like(gram)
    out, counts = gram.new_empty(layers, clients), gram.new_empty(layers, 2)
    given = gram, now, mixing, weights, pairs, out, counts, clients, len(pairs), int(together)
    meta = dict(ROUNDING=ROUNDING, TILE=TILE, num_warps=WARPS)
    launch(_harmonize, layers, gram, *given, **meta)
    return out, counts


@jit(do_not_specialize=["clients", "count", "together"])
def _harmonize(
    start: tl.tensor,  # [L, C, C] float64, of the D
    gram: tl.tensor,  # the same at first, overwritten
    mixing: tl.tensor,  # [L, C, C]
    weights: tl.tensor,  # [C]
    pairs: tl.tensor,  # [count, 2]
    out: tl.tensor,  # [L, C]
    counts: tl.tensor,  # [L, 2]
    clients: tl.tensor,
    count: tl.tensor,
    together: tl.tensor,
    ROUNDING: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One segment; threads meet wherever they read what others have written."""
    layer = tl.program_id(0).to(tl.int64)
    start += layer * clients * clients
    gram += layer * clients * clients
    mixing += layer * clients * clients
    for first in range(0, clients * clients, TILE):
        at = first + tl.arange(0, TILE)
        one = (at % (clients + 1) == 0).to(tl.float64)
        tl.store(mixing + at, one, at < clients * clients)
    tl.store(counts + 2 * layer, _conflicts(gram, start, clients, ROUNDING, TILE))
    tl.debug_barrier()
    for pair in range(count):
        i = tl.load(pairs + 2 * pair).to(tl.int64)
        j = tl.load(pairs + 2 * pair + 1).to(tl.int64)
        inner = tl.load(gram + i * clients + j)
        ii = tl.load(gram + i * clients + i)
        jj = tl.load(gram + j * clients + j)
        least = -ROUNDING * _length(start, i, clients) * _length(start, j, clients)
        if inner < least:
            a = inner / jj
            b = inner / tl.where(together != 0, ii, float("inf"))  # else 0
            tl.debug_barrier()
            _turn(mixing + i * clients, mixing + j * clients, 1, a, b, clients, TILE)
            _turn(gram + i * clients, gram + j * clients, 1, a, b, clients, TILE)
            tl.debug_barrier()
            _turn(gram + i, gram + j, clients, a, b, clients, TILE)
            tl.debug_barrier()
    tl.store(counts + 2 * layer + 1, _conflicts(gram, start, clients, ROUNDING, TILE))
    for first in range(0, clients, TILE):
        k = first + tl.arange(0, TILE)
        total = tl.zeros((TILE,), tl.float64)
        for i in range(clients):
            row = tl.load(mixing + tl.cast(i, tl.int64) * clients + k, k < clients, other=0.0)
            total += tl.load(weights + i) * row
        tl.store(out + layer * clients + k, total, k < clients)


@jit
def _turn(
    one: tl.tensor,
    other: tl.tensor,
    stride: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    clients: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """Two rows, or columns, of a matrix become `[[1, -a], [-b, 1]]` times themselves."""
    for first in range(0, clients, TILE):
        k = first + tl.arange(0, TILE)
        x = tl.load(one + k * stride, k < clients, other=0.0)
        y = tl.load(other + k * stride, k < clients, other=0.0)
        tl.store(one + k * stride, x - a * y, k < clients)
        tl.store(other + k * stride, y - b * x, k < clients)


@jit
def _length(start: tl.tensor, i: tl.tensor, clients: tl.tensor) -> tl.tensor:
    """|D_i|"""
    return tl.sqrt(tl.maximum(tl.load(start + tl.cast(i, tl.int64) * (clients + 1)), 0.0))


@jit
def _conflicts(
    gram: tl.tensor,
    start: tl.tensor,
    clients: tl.tensor,
    ROUNDING: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """How many pairs conflict, by the lengths of the D."""
    found = tl.zeros((TILE,), tl.float64)
    for i in range(clients):
        row = gram + tl.cast(i, tl.int64) * clients
        length = _length(start, i, clients)
        for first in range(0, clients, TILE):
            k = first + tl.arange(0, TILE)
            kk = tl.load(start + k.to(tl.int64) * (clients + 1), k < clients, other=0.0)
            inner = tl.load(row + k, k < clients, other=0.0)
            low = inner < -ROUNDING * length * tl.sqrt(tl.maximum(kk, 0.0))
            found += (low & (k > i) & (k < clients)).to(tl.float64)
    return tl.sum(found, axis=0)
