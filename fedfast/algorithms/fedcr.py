"""FedCR. Zhang et al., "FedCR: Personalized Federated Learning Based on Across-Client Common
Representation with Conditional Mutual Information Regularization", ICML 2023.

    encoder  x -> (mu, sigma = softplus(. - alpha));   z = mu + sigma * noise, L samples of it
    client   mean over the samples of CE(head(z), y)  +  beta KL(r(z | y) || N(mu, sigma^2))
             last epoch: r_k(z | y) = product of N(mu, sigma^2) over its samples of class y
             the head is its own; the encoder starts at the server's
    server   w <- w + eta_g sum_k p_k (v_K - w)
             r(z | y) <- (1 - beta2) r + beta2 N(0, 1) prod_k r_k(z | y)     (mu and sigma apart)

r is N(0, 1) at first; a class that nobody in the cohort holds keeps its Gaussian. A product of
Gaussians adds precisions 1 / sigma^2 and precision-weighted means. The divergence is the one the
authors' code trains with (it reports the other direction). Needs a model with an `encoder` of
2 dimZ outputs and a linear `head`: `fedfast.models.Stochastic`, evaluated at z = mu, the mean
of its logits. The global model holds the mean of the heads; clients never read it. The paper takes
a plain mean over clients: aggregation="uniform", and clip_norm=10.
Client state: its model (of which the head matters), its class Gaussians; server state w, r; one
gradient per step; encoder and 2 dimZ classes numbers down and up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..random import NOISE, keys64
from ..transfers import sent_to
from ._parameter_checks import check_count, check_number
from .base import ALGORITHMS, Algorithm
from .hooks import Clients, Cohort, Rows, ServerView, TrainedLayout
from .objective import Network, Objective
from .optimizers import OPTIMIZERS, Optimizer


@OPTIMIZERS.register("bottleneck-sgd")
@dataclass(frozen=True)
class BottleneckSGD(Optimizer):
    """SGD on the cross-entropy of sampled representations and their divergence from r(z | y)."""

    beta: float = 1e-3
    L: int = 15
    alpha: float = 0.0
    beta2: float = 1.0

    own_loss: ClassVar[str] = "the algorithm trains a stochastic encoder"
    by_class: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta", self.beta)
        check_count("L", self.L, 1)
        check_number("alpha", self.alpha)
        check_number("beta2", self.beta2, 0.0, 1.0)

    def server_values(self, layout: TrainedLayout) -> Rows:
        """r(z | y): N(0, 1)."""
        zeros = torch.zeros(gaussians(layout), dtype=layout.dtype)
        return {"r_mu": zeros, "r_sigma": torch.ones_like(zeros)}

    def client_values(self, layout: TrainedLayout) -> Rows:
        """r_k(z | y) as sums of precisions and of precisions times means."""
        zeros = torch.zeros(gaussians(layout), dtype=layout.dtype)
        return {"precision": zeros, "pull": zeros}

    def begin(self, at: Clients) -> None:
        """No sample has been seen."""
        at.values["precision"].zero_()
        at.values["pull"].zero_()

    def objective(self, at: Clients, looking: bool) -> Objective:
        """CE + beta KL, each client with its own noise."""
        host = at.on_host
        last = (host.epoch(at.step) == host.epochs - 1).tolist()
        keys = keys64(at.seed, at.round, at.ids, NOISE + 256 * at.step, 1)[:, 0]
        seeds = (keys >> np.uint64(1)).astype(np.int64).tolist()

        def loss(net: Network, x: Tensor, y: Tensor, k: int) -> Tensor:
            mu, sigma = torch.chunk(net.part("encoder", x), 2, dim=1)
            sigma = F.softplus(sigma - self.alpha)
            z = mu + sigma * noise(seeds[k], (self.L, *mu.shape), mu)
            value = net.loss(net.part("head", z.flatten(0, 1)), y.repeat(self.L))
            if last[k]:
                self._remember(at, k, mu.detach(), sigma.detach(), y)
            prior = at.server["r_mu"][y], at.server["r_sigma"][y]
            return value + self.beta * divergence(prior, (mu, sigma)).mean()

        return loss

    def _remember(self, at: Clients, k: int, mu: Tensor, sigma: Tensor, y: Tensor) -> None:
        """Multiply the samples' Gaussians to those of their classes."""
        classes = torch.arange(at.values["precision"].shape[1], device=y.device)
        member, precision = (y[:, None] == classes).to(mu.dtype).T, sigma**-2
        at.values["precision"][k] += member @ precision
        at.values["pull"][k] += member @ (mu * precision)

    def finish(self, at: Clients) -> Rows:
        """What the server multiplies."""
        return {name: at.values[name].clone() for name in ("precision", "pull")}

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """`r <- (1 - beta2) r + beta2 N(0, 1) prod_k r_k`."""
        sums = torch.stack([numbers["precision"], numbers["pull"]], dim=1).double()
        sums = _of_finite(sums)
        precision, pull = sums.sum(dim=0)
        held = (precision > 0).any(dim=1, keepdim=True)
        total = 1.0 + precision
        for name, new in (("r_mu", pull / total), ("r_sigma", total.rsqrt())):
            old = server.values[name].double()
            mixed = (1.0 - self.beta2) * old + self.beta2 * new
            server.values[name].copy_(torch.where(held, mixed, old))


def _of_finite(sums: Tensor) -> Tensor:
    """Those of clients [C, ...] that have not diverged; on a device, which tells no sizes without
    a wait, others are 0."""
    finite = sums.isfinite().flatten(1).all(dim=1)
    if sums.device.type == "cpu":
        return sums[finite]
    return sums.where(finite.view(-1, *[1] * (sums.ndim - 1)), 0.0)


def gaussians(layout: TrainedLayout) -> tuple[int, int]:
    """(classes, dimZ), read off the head; ValueError for a model without encoder and head."""
    names = layout.names
    inside = all(name.startswith("encoder.") for name in names[:-2])
    if len(names) < 3 or names[-2:] != ("head.weight", "head.bias") or not inside:
        raise ValueError(
            "model: expected one with a stochastic encoder, fedfast.models.Stochastic(encoder, "
            f"head), all of it trained; got tensors {', '.join(names[:3])}, ..., {names[-1]}"
        )
    classes, dim = layout.shapes[-2]
    return classes, dim


def noise(seed: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return sent_to(torch.randn(shape, generator=generator, dtype=like.dtype), like.device)


def divergence(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """KL(p || q) of diagonal Gaussians (mu, sigma), each [B, dimZ]. [B]"""
    ratio, shift = (p[1] / q[1]) ** 2, ((p[0] - q[0]) / q[1]) ** 2
    return 0.5 * (ratio + shift - 1.0 - ratio.log()).sum(dim=1)


@ALGORITHMS.register("fedcr")
@dataclass(frozen=True)
class FedCR(Algorithm):
    """A common stochastic representation, personal heads.

    beta   1e-3 in the code and for FedFSA's comparison, 1e-4 for CIFAR-100 (dimZ 512, L 18)
    L      noise samples per input
    alpha  offset of the softplus
    beta2  how much of the new class Gaussians the server takes
    """

    local: Optimizer = field(init=False, default_factory=BottleneckSGD)
    beta: float = 1e-3
    L: int = 15
    alpha: float = 0.0
    beta2: float = 1.0

    def __post_init__(self) -> None:
        local = BottleneckSGD(beta=self.beta, L=self.L, alpha=self.alpha, beta2=self.beta2)
        self.compose(local=local)

    def client_rows(self) -> dict[str, str]:
        """The client's own model, for its head."""
        return super().client_rows() | {"v": "model"}

    def starts(self, at: Clients, out: Tensor) -> bool:
        """The server's encoder under the client's own head."""
        head = at.layout.segments.spans[-2][0]
        out.copy_(at.start)
        out[:, head:] = at.own["v"][:, head : at.layout.trained]
        return True
