"""Norms by the statistics of batches: the loss that training with batch normalisation descends.

    L(w) = (1 / n) sum_b n_b loss(f(X_b; w), y_b)        over batches X_b of n_b of n samples

f normalises by mean and variance of X_b's own activations, which are functions of w: derivatives
go through them. A batch's outputs depend on all of its samples, so that the batches are part of
what is measured. Everything else, dropout among it, is as in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ...data import Samples
from ...validation.values import Count

STATISTICS = "running_mean", "running_var"  # what torch's norms call them


def check(module: nn.Module, samples: Sequence[Samples], batch: int) -> None:
    """Raise ValueError/TypeError where there is nothing to normalise, or a batch of one sample."""
    Count(ge=2)("batch_statistics", batch)
    if not _norms(module):
        raise ValueError(
            "batch_statistics: expected a model with batch normalisation; got a "
            f"{type(module).__name__} without"
        )
    for own in samples:
        if len(own) % batch == 1:
            raise ValueError(
                "batch_statistics: expected at least two samples in every batch; the last of "
                f"{len(own)} in batches of {batch} is alone"
            )


def normalise_by_batches(module: nn.Module) -> nn.Module:
    """The module itself, its norms in training mode; nothing else of it."""
    for norm in _norms(module):
        norm.training = True
    return module


def _norms(module: nn.Module) -> list[nn.Module]:
    """Those that may have running statistics; what has none takes those of batches anyway."""
    return [part for part in module.modules() if any(hasattr(part, name) for name in STATISTICS)]
