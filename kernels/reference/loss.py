"""`cross_entropy` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..loss import OUT_OF_RANGE


def cross_entropy(
    logits: Tensor, targets: Tensor, count: Tensor, losses: Tensor, dlogits: Tensor
) -> None:
    """Each client's mean cross-entropy over its first `count` rows, and its gradient."""
    batch, classes = logits.shape[1:]
    inside = torch.arange(batch, device=logits.device) < count[:, None]  # [K, B]
    targets = torch.where(inside, targets, 0)
    if bool((targets < 0).any() | (targets >= classes).any() | (count > batch).any()) or bool(
        (count < 0).any()
    ):
        raise IndexError(OUT_OF_RANGE)
    log_p = torch.log_softmax(logits, 2)
    picked = log_p.gather(2, targets[..., None])[..., 0]
    rows = count.to(logits.dtype)
    losses.copy_(-torch.where(inside, picked, 0.0).sum(1) / rows)
    onehot = torch.nn.functional.one_hot(targets, classes)
    gradient = (log_p.exp() - onehot) / rows[:, None, None]
    dlogits.copy_(torch.where(inside[..., None], gradient, 0.0))
