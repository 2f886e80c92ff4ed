"""What ascents say whose tensors each have a radius of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LayerRadii:
    """`ahead = w + rho_l c g / (c |g| + eps)`, tensor by tensor; see `kernels.layer_reach`.

    rho    [K, L], a client's side by side
    limit  the largest norm of the gradient, clipped by `c = min(limit / (|g| + 1e-6), 1)`
    """

    rho: Tensor
    eps: float
    limit: float = math.inf
