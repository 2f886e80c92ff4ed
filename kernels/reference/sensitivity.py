"""`sensitivity` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..segments import Segments


def sensitivity(x: Tensor, y: Tensor, segments: Segments, normalize: bool, out: Tensor) -> Tensor:
    """Mean squared change of each client's segments, see `kernels.sensitivity`."""
    n = unit_range if normalize else Tensor.double
    for layer, (start, stop) in enumerate(segments.spans):
        change = n(x[:, start:stop]) - n(y[:, start:stop])
        out[:, layer] = change.square().mean(dim=1)
    return out.masked_fill_(~out.isfinite(), torch.nan)


def unit_range(v: Tensor) -> Tensor:
    """`(v - min v) / (max v - min v)` of each row in float64; nothing for nothing. [K, n]."""
    wide = v.double()
    if not v.shape[1]:
        return wide
    low, high = wide.amin(dim=1, keepdim=True), wide.amax(dim=1, keepdim=True)
    return (wide - low) / (high - low)
