"""Which losses are the cross-entropy that layer programs compute."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def is_cross_entropy(loss: Loss) -> bool:
    """Whether the loss is the cross-entropy without weights, smoothing or ignored classes."""
    if isinstance(loss, nn.CrossEntropyLoss):
        plain = loss.weight is None and loss.reduction == "mean" and not loss.label_smoothing
        return plain and loss.ignore_index < 0
    return loss is F.cross_entropy
