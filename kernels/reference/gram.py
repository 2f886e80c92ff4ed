"""`gram` in plain torch."""

from __future__ import annotations

from torch import Tensor

from ..segments import Segments


def gram(rows: Tensor, base: Tensor | None, segments: Segments, out: Tensor) -> Tensor:
    """`out[l] = d d^T` over segment l of `d = rows - base`, see `kernels.gram`."""
    d = (rows if base is None else rows - base).double()
    for layer, (start, stop) in enumerate(segments.spans):
        products = d[:, start:stop] @ d[:, start:stop].T
        out[layer] = products.tril() + products.tril(-1).T  # symmetric to the bit
    return out
