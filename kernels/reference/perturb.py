"""`perturb` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..segments import Segments
from .common import Terms, combine, norm_of, spread


def perturb(
    w: Tensor,
    terms: Terms,
    rho: Tensor,
    alpha: Tensor,
    eps: float,
    adaptive: float | None,
    norm: Tensor | None,
    segments: Segments | None,
    out: Tensor,
) -> Tensor:
    """`out = w + (rho / (|t a| + eps) - alpha) * t^2 * a`, see `kernels.perturb`."""
    size = w.shape[1]
    a = combine(terms)
    t = torch.ones_like(w)
    if adaptive is not None:
        weights = torch.ones(1, 1) if segments is None else segments.is_weight[None].to(w.dtype)
        on = spread(weights.to(w), segments, size, 0.0)
        t = torch.where(on > 0, w.abs() + adaptive, t)
    length = norm_of(t * a) if norm is None else norm.double()
    scale = rho.double() / (length[:, None] + eps) - alpha.double()[:, None]
    layered = segments if rho.shape[1] > 1 else None
    return out.copy_(w + spread(scale, layered, size, 0.0).to(w.dtype) * (t * t * a))
