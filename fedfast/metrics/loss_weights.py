"""What the mean over a batch is divided by: parts of a mean are weighed by it."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .accuracy import known


def ignored(loss: object) -> int:
    """`ignore_index` of a loss over classes, torch's default where it has none."""
    found, inner = None, loss
    while isinstance(inner, partial):
        found, inner = inner.keywords.get("ignore_index", found), inner.func
    return int(getattr(inner, "ignore_index", -100) if found is None else found)


def weight_of(loss: object, y: Tensor) -> float | Tensor:
    """What a mean over these targets is divided by: n, or the summed weights of the classes.

    Of targets on a device a tensor there, float64 [], where they have to be looked at.
    """
    inner = loss
    while isinstance(inner, partial):
        inner = inner.func
    if y.ndim != 1 or not known(
        inner, (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss)
    ):
        return len(y)
    weight = getattr(inner, "weight", None)
    if isinstance(loss, partial):
        weight = loss.keywords.get("weight", weight)
    counts = y != ignored(loss)
    if y.device.type != "cpu":
        own = counts if weight is None else weight[y.where(counts, 0)].where(counts, 0)
        return own.sum(dtype=torch.float64)
    kept = y[counts]
    return len(kept) if weight is None else float(weight[kept].sum(dtype=torch.float64))
