"""What algorithms with losses of their own see of a network, and gradients on chosen samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Network(Protocol):
    """One client's network at one local step: autograd leads from its outputs to its weights."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits. [B, ...] -> [B, classes]"""

    def part(self, name: str, x: Tensor) -> Tensor:
        """The output of the submodule `name`."""

    def holding(self, w: Tensor) -> Network:
        """The same network with other weights [trained], which are constants."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The run's loss, a mean over the batch."""


# (network, x [B, ...], y [B], position of the client in the chunk) -> scalar
Objective = Callable[[Network, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Divergence:
    """Mean KL(softmax(z_w / T) || softmax(z / T)) of a batch's logits; layer programs know it.

    z are the logits at the model, z_w those at `sent`. Called, it is a number of that gradient,
    exactly 0 where the models are one: a computed gradient of the divergence would be noise there.
    sent         [>= trained], a row whose logits are constants
    temperature  T
    span         columns of the model whose gradient is wanted; others may be left unwritten
    """

    sent: Tensor
    temperature: float
    span: tuple[int, int]

    def __call__(self, net: Network, x: Tensor, y: Tensor, k: int) -> Tensor:
        """See `Objective`."""
        logits = net(x)
        with torch.no_grad():
            before = net.holding(self.sent)(x)
            gap = (logits / self.temperature).softmax(dim=1)
            gap -= (before / self.temperature).softmax(dim=1)
        return (logits * gap).sum() / (self.temperature * len(x))


class SampleGradients(Protocol):
    """Gradients on samples that a component chooses among a client's own, before the first step."""

    @property
    def width(self) -> int:
        """B, the widest batch of the run: the one width of all batches."""

    def __call__(
        self,
        ids: np.ndarray,
        index: np.ndarray,
        count: np.ndarray,
        w: Tensor,
        out: Tensor,
        draw: int,
    ) -> Tensor:
        """The mean losses [k] of the clients `ids` [k], their gradients in `out` [k, trained].

        index  [k, B], positions among the client's samples, 0 beyond its count
        count  [k], how many of the B are real, at least 1
        w      [k, trained], models, among the live buffers
        draw   the number of the call from 0, which a client's company must not change: it keys the
               random numbers that the module draws
        """
