"""FedNSAM: sharpness-aware minimisation at a globally extrapolated model (Nesterov momentum).
Liu et al., "FedNSAM: Consistency of Local and Global Flatness for Federated Learning", 2025.

    server   y = w + gamma m, sent to the clients
    client   v_0 = y;  SAM steps;  D_k = v_K - y
    server   m <- gamma m + D;   w <- w + m          so that w + m is the mean of the local models

`fednsam-single` is the method's other form, with one gradient per step: clients start at w and
take every gradient at v + gamma m; the server is the same. The paper's pseudo-code was not
available: both follow the public codes, with a momentum that accumulates.
Client state none; server state w, m; two gradients per step (single: one); one model down (y;
single: two, w and m), one up. gamma 0.85, rho 0.05 in the code; cosine learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from .. import kernels
from ..kernels import step
from ..lr_schedules import Schedulable
from ._parameter_checks import check_number
from .base import ALGORITHMS, Algorithm
from .fedopt import Momentum
from .hooks import Clients, Composition, ServerView
from .optimizers import OPTIMIZERS, SAM, Optimizer
from .servers import SERVER_RULES, ServerRule


@SERVER_RULES.register("nesterov")
@dataclass(frozen=True)
class Nesterov(ServerRule):
    """Momentum whose clients start at the extrapolated model `w + gamma m`."""

    gamma: float = 0.85

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, 0.0, 1.0)

    def kernel(self, lr: float) -> kernels.Server:
        """`m <- gamma m + D; w <- w + m`."""
        return kernels.Server("momentum", lr=lr, beta1=self.gamma)

    def send(
        self, server: ServerView, round: int, rehearsed: Tensor | None, out: Tensor, backend: str
    ) -> None:
        """`y = w + gamma m`."""
        assert server.m is not None
        row = out[None]
        step(row, [(server.m, self.gamma)], -1.0, out=row, backend=backend)


@OPTIMIZERS.register("look-ahead")
@dataclass(frozen=True)
class LookAhead(Optimizer):
    """The gradient at `v + gamma m`, m the server's momentum: one gradient per step."""

    gamma: float = 0.85

    looks: ClassVar[bool] = False
    extra: ClassVar[tuple[int, int]] = (1, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma, 0.0, 1.0)

    def refuses(self, algorithm: Composition) -> str:
        """It perturbs along the server's momentum."""
        if not isinstance(algorithm.server, Momentum):
            return f"look-ahead needs server momentum; the server rule is {algorithm.server.name}"
        return super().refuses(algorithm)

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = v + gamma m`."""
        kernels.mix(at.w, at.server["moment"], 1.0, self.gamma, out=out, backend=at.backend)


@ALGORITHMS.register("fednsam")
@dataclass(frozen=True)
class FedNSAM(Algorithm):
    """SAM at the extrapolated model."""

    local: Optimizer = field(init=False, default_factory=SAM)
    server: ServerRule = field(init=False, default_factory=Nesterov)
    gamma: float = 0.85
    rho: Schedulable = 0.05
    eps: float = 1e-12

    official: ClassVar[tuple[int, int] | None] = (2, 1)

    def __post_init__(self) -> None:
        self.compose(local=SAM(rho=self.rho, eps=self.eps), server=Nesterov(self.gamma))


@ALGORITHMS.register("fednsam-single")
@dataclass(frozen=True)
class FedNSAMSingle(Algorithm):
    """The global momentum itself as the perturbation."""

    local: Optimizer = field(init=False, default_factory=LookAhead)
    server: ServerRule = field(init=False, default_factory=Momentum)
    gamma: float = 0.85

    def __post_init__(self) -> None:
        self.compose(local=LookAhead(gamma=self.gamma), server=Momentum(self.gamma))
