"""What an algorithm is made of: the pieces that the local loop and the server ask it for.

An algorithm declares terms (buffer x coefficient); the fused operations do the arithmetic. It
never loops over parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..kernels import Server
from ..kernels._args import Coefficient, TermsLike
from .optimizers import SGD, Optimizer


@dataclass(frozen=True)
class LocalState:
    """What one local step of K clients may use.

    w      [K, trained], the clients' models at this step
    start  [trained], the model all of them received
    g      [K, trained], the mini-batch gradient, at the perturbed model where there is one
    lr     learning rate of the round, one number or one per client [K]
    """

    w: Tensor
    start: Tensor
    g: Tensor
    lr: Coefficient


@dataclass(frozen=True)
class Direction:
    """What `kernels.step` descends along: sum of terms + lam (w - w_ref) + weight_decay w."""

    terms: TermsLike
    w_ref: Tensor | None = None
    lam: Coefficient = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Algorithm:
    """Base of every page: FedAvg's behaviour, each piece to be replaced by those that differ.

    local  the clients' optimizer: SGD, SAM, ASAM
    """

    local: Optimizer = field(default_factory=SGD)

    name: ClassVar[str] = ""

    def direction(self, at: LocalState) -> Direction:
        """What the step descends along, before clipping and weight decay."""
        return Direction(at.g)

    def server(self, server_lr: float) -> Server:
        """The server rule that turns the mean client update into the next global model."""
        return Server("average", lr=server_lr)
