"""Which normalisation a convolutional model takes: batch, as its paper says, or group."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .._messages import format_value, unknown

Norm = Callable[[int], nn.Module]


def norm_of(norm: str, groups: int, widths: int) -> Norm:
    """Channels -> a layer that normalises them.

    norm    "batch" or "group"
    groups  of every GroupNorm, a divisor of `widths`, which divides every width of the model
    """
    if not isinstance(norm, str) or norm not in ("batch", "group"):
        raise unknown("norm", norm, ("batch", "group"))
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"groups: expected an integer; got {format_value(groups)}")
    if groups < 1 or widths % groups:
        raise ValueError(f"groups: expected a divisor of {widths}; got {format_value(groups)}")
    if norm == "batch":
        return nn.BatchNorm2d
    return lambda channels: nn.GroupNorm(groups, channels)
