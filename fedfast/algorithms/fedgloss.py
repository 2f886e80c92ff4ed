"""FedGloSS and NaiveFedGloSS. Caldarola et al., "Beyond Local Sharpness: Communication-Efficient
Global Sharpness-aware Minimization for Federated Learning", CVPR 2025, algorithm 1.

    server   w~ = w + rho_t D~ / |D~|,   D~ the last round's pseudo-gradient, 0 at first; sent
    client   v_0 = w~;   v <- v - eta (g' - sigma_k + (v - w~) / beta)      g': of SGD or SAM
             sigma_k <- sigma_k - (v_K - w~) / beta
    server   sigma <- sigma - sum_{k in S} (v_K - w~) / (beta N);   D~ = sum_k p_k (w~ - v_K)
             w <- w - eta_g D~ - beta sigma

Written with FedDyn's dual: h_k = -beta sigma_k, lam = 1 / beta, -beta sigma = the mean of h over
all clients. NaiveFedGloSS makes two exchanges with the same cohort per round: the first, whose
duals are not kept, measures D~; the second is the round above. `variant="official"` is the authors'
code: sigma moves by 1 / |S| of that, and anchor and sigma_k are renewed after every local epoch.
Client state sigma_k; server state w, sigma, D~; one gradient per step (SAM clients two); one model
down, one up (Naive: two each). CIFAR-10: rho = rho_l = 0.15, beta 10, T_s 2000, rho0 0.001;
CIFAR-100: rho 0.01, rho_l 0.2, beta 100, T_s 15000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..kernels import perturb, step
from ..kernels._args import TermsLike
from ..lr_schedules import Ramp, Schedulable, at_round
from ._parameter_checks import check, check_count, check_number, check_schedule, check_word
from .base import ALGORITHMS, Algorithm
from .drift import DRIFTS, Drift
from .feddyn import Dual
from .hooks import (
    Clients,
    Cohort,
    Composition,
    Direction,
    Rows,
    ServerView,
    Sum,
    TrainedLayout,
    listed,
)
from .optimizers import SAM, Optimizer
from .servers import SERVER_RULES, ServerRule


@SERVER_RULES.register("server-sam")
@dataclass(frozen=True)
class ServerSAM(ServerRule):
    """Clients start at the model perturbed along the last pseudo-gradient."""

    rho: Schedulable = 0.1
    eps: float = 1e-16

    server_rows: ClassVar[tuple[str, ...]] = ("update",)  # D = -D~

    def __post_init__(self) -> None:
        check_schedule("rho", self.rho)
        check_number("eps", self.eps)

    def refuses(self, algorithm: Composition) -> str:
        """Momentum and control variates are measured from the model, not from where it was sent."""
        if not algorithm.drift.plain and not isinstance(algorithm.drift, Dual):
            drift = algorithm.drift.name
            return f"a perturbed start under {drift}, whose state is measured from the model itself"
        return ""

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """Remember D."""
        return [Sum("update", cohort.weights, keep=0.0)]

    def send(
        self, server: ServerView, round: int, rehearsed: Tensor | None, out: Tensor, backend: str
    ) -> None:
        """`w~ = w + rho_t D~ / |D~|`."""
        self._ascend(server.rows["update"], round, out, backend)

    def _ascend(self, update: Tensor, round: int, out: Tensor, backend: str) -> None:
        row, rho = out[None], at_round(self.rho, round)
        perturb(row, [(update, -1.0)], rho, out=row, eps=self.eps, backend=backend)


@SERVER_RULES.register("rehearsed-sam")
@dataclass(frozen=True)
class RehearsedSAM(ServerSAM):
    """The pseudo-gradient is measured in an exchange of its own."""

    server_rows: ClassVar[tuple[str, ...]] = ()
    rehearses: ClassVar[bool] = True
    extra: ClassVar[tuple[int, int]] = (1, 1)

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """Nothing is remembered."""
        return []

    def send(
        self, server: ServerView, round: int, rehearsed: Tensor | None, out: Tensor, backend: str
    ) -> None:
        """`w` in the first exchange, `w~` in the second."""
        if rehearsed is not None:
            self._ascend(rehearsed.to(out.dtype), round, out, backend)


@DRIFTS.register("epoch-dual")
@dataclass(frozen=True)
class EpochDual(Dual):
    """The dual as the authors' code has it: renewed after every local epoch, sigma by 1 / |S|."""

    constant: ClassVar[bool] = False

    def scratch_rows(self) -> Sequence[str]:
        """The model at the start of the local epoch."""
        return ("anchor",)

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """Whether an epoch ends, twice."""
        return 2, 0

    def begin(self, at: Clients) -> None:
        """The first anchor is the model that was sent."""
        at.scratch["anchor"].copy_(at.start)

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """`g + lam (h_i + v - anchor)`."""
        dual = (at.own["h_i"], self.lam)
        return Direction([*listed(terms), dual], w_ref=at.scratch["anchor"], lam=self.lam)

    def after_step(self, at: Clients) -> None:
        """Clients at the end of an epoch: `h_i <- h_i + (v - anchor)`, `anchor <- v`."""
        ends, kept = at.by_step(_ends_of_epochs)
        h, anchor = at.own["h_i"], at.scratch["anchor"]
        moved = [(at.w, ends), (anchor, kept)]
        for row in (h, anchor):
            step(row, moved, -1.0, out=row, backend=at.backend)

    def finish(self, at: Clients) -> Rows:
        """Everything is done at the ends of epochs."""
        return {}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """`h <- h + sum_S (v_K - w~) / (N |S|)`."""
        share = 1.0 / (cohort.population * len(cohort))
        return [Sum("h", torch.full_like(cohort.weights, share))]


def _ends_of_epochs(at: Clients) -> tuple[Tensor, Tensor]:
    """1 and -1 for clients whose step is the last of an epoch, 0 for others."""
    ends = (at.epoch(at.step + 1) > at.epoch(at.step)).to(torch.float64)
    return ends, -ends


@dataclass(frozen=True)
class OfficialRamp:
    """The server's radius as the authors' schedule computes it: no warm-up after round 0."""

    rho0: float
    rho: float
    rho_l: float
    rounds: int

    def __call__(self, t: int) -> float:
        """rho0, then `rho_l + (rho - rho0) / T_s` up to round T_s, then rho."""
        if t == 0:
            return self.rho0
        late = t > self.rounds
        return self.rho if late else self.rho_l + (self.rho - self.rho0) / self.rounds


@ALGORITHMS.register("fedgloss")
@dataclass(frozen=True)
class FedGloSS(Algorithm):
    """Sharpness-aware server over ADMM clients; `local=SAM(rho_l)` for SAM clients.

    rho       the server's radius
    beta      1 / lam of the ADMM terms
    rho0, T_s with T_s > 0 both radii rise linearly from rho0 over the first T_s rounds
    """

    drift: Drift = field(init=False, default_factory=Dual)
    server: ServerRule = field(init=False, default_factory=ServerSAM)
    rho: Schedulable = 0.1
    beta: float = 10.0
    rho0: float = 0.001
    T_s: int = 0
    variant: str = "paper"

    verified: ClassVar[str] = "public run"
    rule: ClassVar[type[ServerSAM]] = ServerSAM
    variants: ClassVar[tuple[str, ...]] = ("paper", "official")

    def __post_init__(self) -> None:
        check_number("beta", self.beta, above=True)
        check_number("rho0", self.rho0)
        check_count("T_s", self.T_s)
        check_word("variant", self.variant, self.variants)
        twice = self.T_s > 0 and callable(self.rho)
        check(not twice, "T_s", "0 with a schedule for rho", self.T_s)
        lam, official = 1.0 / self.beta, self.variant == "official"
        drift = EpochDual(lam, "whole") if official else Dual(lam, "whole")
        self.compose(local=self._warm(self.local), drift=drift, server=self.rule(self._radius()))

    def _radius(self) -> Schedulable:
        if callable(self.rho) or not self.T_s:
            return self.rho
        if self.variant == "official":
            local = getattr(self.local, "rho", 0.0)
            end = local.end if isinstance(local, Ramp) else local
            return OfficialRamp(self.rho0, self.rho, end, self.T_s)
        return Ramp(self.rho0, self.rho, self.T_s)

    def _warm(self, local: Optimizer) -> Optimizer:
        """SAM clients' radius rises with the server's."""
        if not self.T_s or not isinstance(local, SAM) or callable(local.rho):
            return local
        return replace(local, rho=Ramp(self.rho0, local.rho, self.T_s))


@ALGORITHMS.register("naive-fedgloss")
@dataclass(frozen=True)
class NaiveFedGloSS(FedGloSS):
    """FedGloSS that measures the pseudo-gradient in an exchange of its own: twice the traffic.

    The first exchange runs the same clients with their current duals on batches of its own
    (an explicit schedule gives both exchanges the same), and changes no state.
    """

    verified: ClassVar[str] = "script"
    rule: ClassVar[type[ServerSAM]] = RehearsedSAM
    variants: ClassVar[tuple[str, ...]] = ("paper",)  # the authors published no code for it
