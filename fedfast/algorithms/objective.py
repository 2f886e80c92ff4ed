"""What algorithms with losses of their own see of a network, and gradients on chosen samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class Sampling:
    """Representations sampled between a model's `encoder`, of 2 D outputs, and its linear `head`.

    samples  L, of each input
    alpha    offset of the softplus: sigma = softplus(. - alpha)
    """

    samples: int
    alpha: float


@dataclass(frozen=True)
class Bottleneck:
    """Mean cross-entropy of `head(z)`, z ~ N(mu, sigma^2) = encoder(x), and a divergence beside it.

        CE(head(mu + sigma noise), y) + beta mean KL(r_y || N(mu, sigma^2)),   known to programs

    noise         [K, B L, D], rows of the same input side by side
    mean, spread  [C, D], of r_y
    last          [K], not 0 where the batch's Gaussians join those of their classes:
    precision     [K, C, D], receives 1 / sigma^2
    pull          [K, C, D], receives mu / sigma^2
    """

    sampling: Sampling
    beta: float
    noise: Tensor
    mean: Tensor
    spread: Tensor
    last: Tensor
    precision: Tensor
    pull: Tensor

    def __call__(self, net: Network, x: Tensor, y: Tensor, k: int) -> Tensor:
        """See `Objective`."""
        many = self.sampling.samples
        mu, sigma = torch.chunk(net.part("encoder", x), 2, dim=1)
        sigma = F.softplus(sigma - self.sampling.alpha)
        drawn = self.noise[k, : len(y) * many].view(len(y), many, -1).transpose(0, 1)
        z = mu + sigma * drawn
        value = net.loss(net.part("head", z.flatten(0, 1)), y.repeat(many))
        self._remember(k, mu.detach(), sigma.detach(), y)
        prior = self.mean[y], self.spread[y]
        return value + self.beta * divergence(prior, (mu, sigma)).mean()

    def _remember(self, k: int, mu: Tensor, sigma: Tensor, y: Tensor) -> None:
        """Multiply the samples' Gaussians to those of their classes, in the last epoch."""
        classes = torch.arange(self.precision.shape[1], device=y.device)
        member, precision = (y[:, None] == classes).to(mu.dtype).T, sigma**-2
        for total, own in ((self.precision, precision), (self.pull, mu * precision)):
            total[k] += torch.where(self.last[k] != 0, member @ own, 0.0)


def divergence(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """KL(p || q) of diagonal Gaussians (mu, sigma), each [B, dimZ]. [B]"""
    ratio, shift = (p[1] / q[1]) ** 2, ((p[0] - q[0]) / q[1]) ** 2
    return 0.5 * (ratio + shift - 1.0 - ratio.log()).sum(dim=1)


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
