"""`gram`: the products of every pair of client updates, in one pass over the bank.

    d_k = rows_k - base                              (base optional)
    out[l, i, j] = sum over segment l of d_i d_j

Cosines, conflicts and projections of updates (gradient harmonization) are then arithmetic on K x K
numbers, and a weighted sum of the rows is all that touches the bank again.

Bytes per element of a client (f = element size): reads f, and f of the base (f / K where it is
shared); writes 8 K^2 per segment. (K + 1) / 2 products per element.
Float32 rows, native: differences and sums of 14 products are float32, all above them float64; an
error is below 1e-6 |d_i| |d_j| whatever the data. Triton and float64 rows: float64 throughout.
Symmetric to the bit. Deterministic: fixed blocks of columns are added in a fixed order, and what
two clients give together does not depend on the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._args import output64
from .declaration import In, Layers, Made, Out
from .operation import operation
from .segments import Segments


def _is_none(segments: Segments | None) -> bool:
    return segments is None


def _result(out: Tensor | None, whole: bool, layers: int, rows: Tensor) -> Tensor:
    pairs = (rows.shape[0], rows.shape[0])
    return output64("out", out, pairs if whole else (layers, *pairs), rows)


def _products(name: str, out: Tensor | None, result: Tensor, layers: int, clients: int) -> Tensor:
    return result.view(layers, clients, clients)


@operation(
    In("rows", "K S"),
    In("base", "K S", optional=True),
    Made("whole", check=_is_none, using="segments", passed=False),
    Layers("segments"),
    Made("result", check=_result, using="out whole L rows", passed=False),
    Out("out", "L K K", torch.float64, check=_products, using="result L K"),
    returns="result",
    moves="rows + base",
)
def gram(
    rows: Tensor,
    base: Tensor | None = None,
    *,
    segments: Segments | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Products of the updates `d_k = rows_k - base`: `[K, K]`, or `[L, K, K]` with segments.

    rows      `[K, S]`
    base      `[S]` or `[K, S]`, what updates are measured from; None for rows that are updates
    segments  layers; None takes the whole row, padding included
    out       float64, contiguous, of the shape returned; allocated if None
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    Source: what FedGH (Zhang et al., arXiv 2309.06692) needs to know of K updates.
    """
