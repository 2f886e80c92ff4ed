"""Server rules over FedAvg's clients: FedAvgM, FedAdagrad, FedAdam, FedYogi.
Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019 (FedAvgM);
Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2 (the others).

    D = sum_k p_k (v_K - w)
    FedAvgM     m <- beta m + D;                w <- w + eta_g m
    adaptive    m <- beta1 m + (1 - beta1) D;   w <- w + eta_g m / (sqrt(v) + tau)   with
                Adagrad   v <- v + D^2
                Adam      v <- beta2 v + (1 - beta2) D^2
                Yogi      v <- v - (1 - beta2) D^2 sign(v - D^2)

No bias correction; m starts at 0 and v at tau^2 (algorithm 2). `eta_g` is the run's `server_lr`.
Client state none; one gradient per step (two with `local=SAM(...)`); one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kernels import Server
from ._checks import check_number
from .base import Algorithm


@dataclass(frozen=True)
class FedAvgM(Algorithm):
    """Server momentum `beta` (paper: 0.9)."""

    beta: float = 0.9

    name: ClassVar[str] = "fedavgm"

    def __post_init__(self) -> None:
        check_number("beta", self.beta, 0.0, 1.0)

    def server(self, server_lr: float) -> Server:
        """`m <- beta m + D; w <- w + eta_g m`."""
        return Server("momentum", lr=server_lr, beta1=self.beta)


@dataclass(frozen=True)
class FedAdam(Algorithm):
    """Adam at the server. Paper: beta1 0.9, beta2 0.99, tau 1e-3; `server_lr` must be tuned."""

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    name: ClassVar[str] = "fedadam"
    rule: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        check_number("beta1", self.beta1, 0.0, 1.0)
        check_number("beta2", self.beta2, 0.0, 1.0)
        check_number("tau", self.tau)

    def server(self, server_lr: float) -> Server:
        """`w <- w + eta_g m / (sqrt(v) + tau)`."""
        return Server(self.rule, server_lr, self.beta1, self.beta2, self.tau)


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi at the server: v moves by at most (1 - beta2) D^2 per round."""

    name: ClassVar[str] = "fedyogi"
    rule: ClassVar[str] = "yogi"


@dataclass(frozen=True)
class FedAdagrad(FedAdam):
    """Adagrad at the server; the paper takes beta1 = 0."""

    beta1: float = 0.0

    name: ClassVar[str] = "fedadagrad"
    rule: ClassVar[str] = "adagrad"
