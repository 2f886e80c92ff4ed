"""`layer_reach` in plain torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._square_root import square_root


def layer_reach(
    rho: Tensor, squares: Sequence[Tensor], eps: float, limit: float, out: Tensor
) -> Tensor:
    """`out_l = rho_l c / (c |g| + eps)`, see `kernels.layer_reach`."""
    length = square_root(torch.as_tensor(sum(s.sum(1) for s in squares)))
    left = torch.ones_like(length)
    if limit < math.inf:
        left = (limit / (length + 1e-6)).clamp(max=1.0)
    return out.copy_((rho * (left / (length * left + eps))[:, None]).T)
