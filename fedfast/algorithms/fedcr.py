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
from torch import Tensor

from ..random import NOISE, keys64
from ._parameter_checks import check_count, check_number
from .base import ALGORITHMS, Algorithm
from .hooks import Clients, Cohort, Rows, ServerView, TrainedLayout
from .objective import Bottleneck, Sampling
from .optimizers import OPTIMIZERS, Optimizer

SUMS = "precision", "pull"  # of a client's Gaussians, by class


@OPTIMIZERS.register("bottleneck-sgd")
@dataclass(frozen=True)
class BottleneckSGD(Optimizer):
    """SGD on the cross-entropy of sampled representations and their divergence from r(z | y)."""

    beta: float = 1e-3
    L: int = 15
    alpha: float = 0.0
    beta2: float = 1.0

    by_class: ClassVar[bool] = True
    step_values: ClassVar[tuple[str, ...]] = SUMS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta", self.beta)
        check_count("L", self.L, 1)
        check_number("alpha", self.alpha)
        check_number("beta2", self.beta2, 0.0, 1.0)

    @property
    def own_loss(self) -> str:
        """Layer programs have the bottleneck; not what a class of one's own makes of it."""
        return self._loss_beside(BottleneckSGD)

    @property
    def sampling(self) -> Sampling:
        """L samples of each input."""
        return Sampling(self.L, self.alpha)

    def server_values(self, layout: TrainedLayout) -> Rows:
        """r(z | y): N(0, 1)."""
        zeros = torch.zeros(gaussians(layout), dtype=layout.dtype)
        return {"r_mu": zeros, "r_sigma": torch.ones_like(zeros)}

    def client_values(self, layout: TrainedLayout) -> Rows:
        """r_k(z | y) as sums of precisions and of precisions times means."""
        zeros = torch.zeros(gaussians(layout), dtype=layout.dtype)
        return {"precision": zeros, "pull": zeros}

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """Whether a step is one of the last epoch."""
        return 1, 0

    def begin(self, at: Clients) -> None:
        """No sample has been seen."""
        for name in SUMS:
            at.values[name].zero_()

    def drawn(
        self, at: Clients, client: np.ndarray, step: np.ndarray, count: Tensor, width: int
    ) -> Tensor:
        """Each batch's noise, by (seed, round, client, step) alone. [n, B L, dimZ]"""
        keys = keys64(at.seed, at.round, at.ids[client], NOISE + 256 * step, 1)[:, 0]
        seeds, size = (keys >> np.uint64(1)).astype(np.int64).tolist(), gaussians(at.layout)[1]
        out = torch.zeros(len(seeds), width * self.L, size, dtype=at.w.dtype)
        for row, seed, n in zip(out, seeds, count.tolist(), strict=True):
            own = noise(seed, (self.L, n, size), row).transpose(0, 1)
            row[: n * self.L].view(n, self.L, size).copy_(own)
        return out

    def objective(self, at: Clients, looking: bool) -> Bottleneck:
        """CE + beta KL, each client with its own noise."""
        assert at.noise is not None
        (last,) = at.by_step(self._last)
        assert isinstance(last, Tensor)
        return Bottleneck(
            self.sampling,
            self.beta,
            at.noise,
            at.server["r_mu"],
            at.server["r_sigma"],
            last,
            at.values["precision"],
            at.values["pull"],
        )

    def _last(self, at: Clients) -> tuple[Tensor]:
        """Whether the step is one of the last epoch."""
        return ((at.epoch(at.step) == at.epochs - 1).to(at.w.dtype),)

    def finish(self, at: Clients) -> Rows:
        """What the server multiplies."""
        return {name: at.values[name].clone() for name in SUMS}

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
    """Standard normal numbers that depend on the seed alone, on the host."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=like.dtype)


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
