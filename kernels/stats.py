"""`stats`: per-client, per-layer sums over one or two banks in one pass.

    a = x - x_ref,  b = y - y_ref                    (references optional; b = 0 without y)
    out[k, l] = ( sum aa, sum ab, sum bb, sum |ab|, number of non-finite a or b )

Bytes per element of a client: reads f for each of x, y, x_ref, y_ref given (f = element size);
writes 40 bytes per segment. Sums are taken in float64 over fixed blocks in a fixed order:
deterministic, the same for any K.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from .declaration import In, Layers, Out, Require
from .operation import operation
from .segments import Segments


class Column(IntEnum):
    """The last axis of what `stats` returns."""

    XX = 0
    XY = 1
    YY = 2
    ABS_XY = 3
    NONFINITE = 4


def _needs_y(y: Tensor | None, y_ref: Tensor | None) -> None:
    if y is None and y_ref is not None:
        raise ValueError("y_ref: expected None without y; got a tensor")


@operation(
    Require("pair", check=_needs_y, using="y y_ref"),
    In("x", "K S"),
    In("y", "K S", optional=True),
    In("x_ref", "K S", optional=True),
    In("y_ref", "K S", optional=True),
    Layers("segments"),
    Out("out", "K L 5", torch.float64),
    returns="out",
    moves="x + y + x_ref + y_ref",
)
def stats(
    x: Tensor,
    y: Tensor | None = None,
    *,
    x_ref: Tensor | None = None,
    y_ref: Tensor | None = None,
    segments: Segments | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Sums over each segment of `a = x - x_ref`, `b = y - y_ref`: `[K, L, 5]`, see `Column`.

    x, y, x_ref, y_ref   `[K, S]` or a shared row `[S]`
    segments             layers; None takes the whole row as one segment, padding included
    out                  `[K, L, 5]` float64, contiguous; allocated if None
    Squares, products and differences are formed in float64; `norms` and `cosines` read the result.
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    """


def norms(sums: Tensor, column: Column = Column.XX) -> Tensor:
    """Euclidean norm of each client's row: sqrt of the sum over segments. `[K, L, 5]` -> `[K]`."""
    return sums[..., column].sum(dim=1).sqrt()


def cosines(sums: Tensor) -> Tensor:
    """Cosine of a and b over all segments, 0 where a norm is 0. `[K, L, 5]` -> `[K]`."""
    xx, xy, yy = (sums[..., c].sum(dim=1) for c in (Column.XX, Column.XY, Column.YY))
    length = (xx * yy).sqrt()
    return torch.where(length > 0, xy / length, torch.zeros_like(xy))
