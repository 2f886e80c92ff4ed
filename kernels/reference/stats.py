"""`stats` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..segments import Segments


def stats(
    x: Tensor,
    y: Tensor | None,
    x_ref: Tensor | None,
    y_ref: Tensor | None,
    segments: Segments,
    out: Tensor,
) -> Tensor:
    """Per client and segment: sums of xx, xy, yy, |xy| and the count of non-finite elements."""
    a = (x if x_ref is None else x - x_ref).double()
    b = torch.zeros_like(a) if y is None else (y if y_ref is None else y - y_ref).double()
    bad = ~(a.isfinite() & b.isfinite())
    columns = (a * a, a * b, b * b, (a * b).abs(), bad.double())
    for layer, (start, stop) in enumerate(segments.spans):
        for column, values in enumerate(columns):
            out[:, layer, column] = values[:, start:stop].sum(dim=1)
    return out
