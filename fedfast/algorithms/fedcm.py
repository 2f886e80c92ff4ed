"""FedCM and MoFedSAM. Xu et al., "FedCM: Federated Learning with Client-level Momentum", 2021;
Qu et al., "Generalized Federated Learning via Sharpness Aware Minimization", ICML 2022.

    client   d = alpha g + (1 - alpha) m;   v <- v - eta (clip(d) + wd v)
             MoFedSAM: g is SAM's gradient
    server   w <- w + eta_g D;   m <- -sum_k p_k D_k / (K_k eta)      D_k = v_K - w, m = 0 at first

K_k are the steps that client k made. m is 0 in the first round, which therefore moves with the
learning rate alpha eta. Client state none; server state w, m; one gradient per step (MoFedSAM
two); two model sizes down (w, m), one up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ..kernels._args import TermsLike
from ..lr_schedules import Schedulable
from ._parameter_checks import check_number
from .base import ALGORITHMS, Algorithm
from .drift import DRIFTS, Drift, check_steps, total_rate
from .hooks import Clients, Cohort, Direction, Sum, listed
from .optimizers import SAM, Optimizer


@DRIFTS.register("client-momentum")
@dataclass(frozen=True)
class ClientMomentum(Drift):
    """The mean direction of the last round joins every step.

    alpha  weight of the client's own gradient, in (0, 1]
    steps  K in m's denominator; None counts each client's own steps, FL-Simulator takes
           E n_0 / B of client 0 for all
    """

    alpha: float = 0.1
    steps: float | None = None

    server_rows: ClassVar[tuple[str, ...]] = ("m",)
    constant: ClassVar[bool] = True
    extra: ClassVar[tuple[int, int]] = (1, 0)

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 0.0, 1.0, above=True)
        check_steps(self.steps)

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """`alpha g + (1 - alpha) m`."""
        own = [(t, self.alpha * c) for t, c in listed(terms)]
        return Direction([*own, (at.server["m"], 1.0 - self.alpha)])

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """`m <- -sum_k p_k D_k / (K_k eta)`."""
        return [Sum("m", -cohort.weights / total_rate(cohort, self.steps), keep=0.0)]


@ALGORITHMS.register("fedcm")
@dataclass(frozen=True)
class FedCM(Algorithm):
    """Client-level momentum over SGD (alpha 0.1 in the paper)."""

    drift: Drift = field(init=False, default_factory=ClientMomentum)
    alpha: float = 0.1
    steps: float | None = None

    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        self.compose(drift=ClientMomentum(self.alpha, self.steps))


@ALGORITHMS.register("mofedsam")
@dataclass(frozen=True)
class MoFedSAM(Algorithm):
    """Client-level momentum over SAM. alpha (the paper's beta) 0.1; rho 0.1 in FL-Simulator."""

    local: Optimizer = field(init=False, default_factory=SAM)
    drift: Drift = field(init=False, default_factory=ClientMomentum)
    rho: Schedulable = 0.1
    alpha: float = 0.1
    eps: float = 1e-12
    steps: float | None = None

    def __post_init__(self) -> None:
        local = SAM(rho=self.rho, eps=self.eps)
        self.compose(local=local, drift=ClientMomentum(self.alpha, self.steps))
