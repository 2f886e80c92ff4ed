"""Server rules over FedAvg's clients: FedAvgM, FedAdagrad, FedAdam, FedYogi.
Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019 (FedAvgM);
Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2 (the others).

    D = sum_k p_k (v_K - w)
    FedAvgM     m <- beta m + D;                w <- w + eta_g m
    adaptive    m <- beta1 m + (1 - beta1) D;   w <- w + eta_g m / (sqrt(v) + tau)   with
                Adagrad   v <- v + D^2
                Adam      v <- beta2 v + (1 - beta2) D^2
                Yogi      v <- v - (1 - beta2) D^2 sign(v - D^2)

No bias correction; m starts at 0 and v at tau^2 (algorithm 2), or at `v0`. `eta_g` is the
run's `server_lr`.
Client state none; one gradient per step (two with `local=SAM(...)`); one model down, one up.
The rules serve under any clients: `FedProx(mu=0.1, server=Momentum(beta=0.9))`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .. import kernels
from ._parameter_checks import check_number
from .base import ALGORITHMS, Algorithm
from .servers import SERVER_RULES, ServerRule


@SERVER_RULES.register("momentum")
@dataclass(frozen=True)
class Momentum(ServerRule):
    """`m <- beta m + D; w <- w + eta_g m`."""

    beta: float = 0.9

    def __post_init__(self) -> None:
        check_number("beta", self.beta, 0.0, 1.0)

    def kernel(self, lr: float) -> kernels.Server:
        """FedAvgM's rule."""
        return kernels.Server("momentum", lr=lr, beta1=self.beta)


@SERVER_RULES.register("adam")
@dataclass(frozen=True)
class Adam(ServerRule):
    """`w <- w + eta_g m / (sqrt(v) + tau)` with Adam's moments."""

    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    v0: float | None = None

    def __post_init__(self) -> None:
        check_number("beta1", self.beta1, 0.0, 1.0)
        check_number("beta2", self.beta2, 0.0, 1.0)
        check_number("tau", self.tau)
        if self.v0 is not None:
            check_number("v0", self.v0)

    def start_moment(self) -> float | None:
        """v0, by default tau^2."""
        return self.v0

    def kernel(self, lr: float) -> kernels.Server:
        """FedOpt's algorithm 2."""
        return kernels.Server(self.name, lr, self.beta1, self.beta2, self.tau)


@SERVER_RULES.register("yogi")
@dataclass(frozen=True)
class Yogi(Adam):
    """Adam whose v moves by at most (1 - beta2) D^2 per round."""


@SERVER_RULES.register("adagrad")
@dataclass(frozen=True)
class Adagrad(Adam):
    """Adam whose v adds up; the paper takes beta1 = 0."""

    beta1: float = 0.0


@ALGORITHMS.register("fedavgm")
@dataclass(frozen=True)
class FedAvgM(Algorithm):
    """Server momentum `beta` (paper: 0.9)."""

    server: ServerRule = field(init=False, default_factory=Momentum)
    beta: float = 0.9

    def __post_init__(self) -> None:
        self.compose(server=Momentum(self.beta))


@ALGORITHMS.register("fedadam")
@dataclass(frozen=True)
class FedAdam(Algorithm):
    """Adam at the server. Paper: beta1 0.9, beta2 0.99, tau 1e-3; `server_lr` must be tuned.

    v0: the second moment's start, None for tau^2 (the paper); FL-Simulator: v0 0, tau 0.01.
    """

    server: ServerRule = field(init=False, default_factory=Adam)
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    v0: float | None = None

    rule: ClassVar[type[Adam]] = Adam

    def __post_init__(self) -> None:
        self.compose(server=self.rule(self.beta1, self.beta2, self.tau, self.v0))


@ALGORITHMS.register("fedyogi")
@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi at the server: v moves by at most (1 - beta2) D^2 per round."""

    rule: ClassVar[type[Adam]] = Yogi


@ALGORITHMS.register("fedadagrad")
@dataclass(frozen=True)
class FedAdagrad(FedAdam):
    """Adagrad at the server; the paper takes beta1 = 0."""

    beta1: float = 0.0

    rule: ClassVar[type[Adam]] = Adagrad
