"""`kl_gradient` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..divergence import OUT_OF_RANGE


def kl_gradient(logits: Tensor, before: Tensor, count: Tensor, scale: float, out: Tensor) -> Tensor:
    """`(softmax(scale logits) - softmax(scale before)) scale / count` of the first `count` rows."""
    batch = logits.shape[1]
    if bool(((count < 0) | (count > batch)).any()):
        raise IndexError(OUT_OF_RANGE)
    inside = torch.arange(batch, device=logits.device) < count[:, None]  # [K, B]
    gap = torch.softmax(scale * logits, 2) - torch.softmax(scale * before, 2)
    gradient = gap * scale / count.to(logits.dtype)[:, None, None]
    return out.copy_(torch.where(inside[..., None], gradient, 0.0))
