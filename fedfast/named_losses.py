"""Losses by name: `cross_entropy`, or a user's own with its options.

    @LOSSES.register("focal")
    def focal(outputs, targets, gamma: float = 2.0): ...

    Simulation(..., loss="my_package.losses:Focal")

A function is the loss itself, called as f(outputs, targets, **options); a class is made with the
options, and its object is the loss. torch's own are found in the same way: "torch.nn:MSELoss".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch.nn.functional as F
from torch import Tensor

from ._messages import check_options
from .metrics.accuracy import Loss
from .registry import Registry

LOSSES = Registry[Callable[..., Tensor]](
    "loss",
    "a function (outputs, targets, **options) -> mean over the batch, or a class of such",
    callable,
)


@LOSSES.register("cross_entropy")
def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


def filled(function: Callable[..., object]) -> tuple[str, ...]:
    """The parameters of a loss that are no options: outputs and targets, whatever their names."""
    if isinstance(function, type):
        return ()
    return tuple(signature(function).parameters)[:2]


def loss(given: str | Loss, **options: object) -> str | Loss:
    """The loss of this name with its options; "cross_entropy" and callables as they are.

    Raises ValueError for an unknown name (with the nearest known one) or option.
    """
    if not isinstance(given, str) or given == "cross_entropy":
        return given
    found = LOSSES.find(given)
    check_options(given, found, options, own=filled(found))
    if isinstance(found, type):
        return found(**options)
    return partial(found, **options) if options else found
