"""The server's rules in Triton, for blocks of columns of `aggregate`; see `kernels/server.py`."""

from __future__ import annotations

from .common import jit, tl


@jit
def wide(row: tl.tensor, cols: tl.tensor, mask: tl.tensor) -> tl.tensor:
    """A block of a row in float64."""
    return tl.load(row + cols, mask, other=0.0).to(tl.float64)


@jit
def kept(row: tl.tensor, cols: tl.tensor, mask: tl.tensor, value: tl.tensor) -> tl.tensor:
    """Store a moment in the row's dtype and return it as stored."""
    stored = value.to(row.dtype.element_ty)
    tl.store(row + cols, stored, mask)
    return stored.to(tl.float64)


@jit
def change(
    mean: tl.tensor,
    m: tl.tensor,
    v: tl.tensor,
    cols: tl.tensor,
    mask: tl.tensor,
    lr: tl.tensor,
    beta1: tl.tensor,
    beta2: tl.tensor,
    tau: tl.tensor,
    RULE: tl.constexpr,
) -> tl.tensor:
    """What the server adds to its model, see `kernels/server.py`."""
    if RULE == "average":
        move = lr * mean
    elif RULE == "momentum":
        move = lr * kept(m, cols, mask, beta1 * wide(m, cols, mask) + mean)
    else:
        square = mean * mean
        old = wide(v, cols, mask)
        if RULE == "adagrad":
            second = old + square
        elif RULE == "adam":
            second = beta2 * old + (1 - beta2) * square
        else:
            side = tl.where(old > square, 1.0, tl.where(old < square, -1.0, 0.0))
            second = old - (1 - beta2) * square * side
        root = tl.sqrt(kept(v, cols, mask, second))
        moment = kept(m, cols, mask, beta1 * wide(m, cols, mask) + (1 - beta1) * mean)
        move = lr * moment / (root + tau)
    return move
