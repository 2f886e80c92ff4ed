"""SCAFFOLD and FedGAMMA. Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning", ICML 2020; Dai et al., "FedGAMMA: Federated Learning with Global
Sharpness-Aware Minimization", TNNLS 2023.

    client   d = g + c - c_i;   v <- v - eta (clip(d) + wd v)         FedGAMMA: g is SAM's gradient
             option I    c_i^+ = the full local gradient at w
             option II   c_i^+ = c_i - c + (w - v_K) / (K_i eta)
    server   w <- w + eta_g D;   c <- c + (1 / N) sum_{i in S} (c_i^+ - c_i)

K_i are the steps client i made, eta the learning rate of the round. c = c_i = 0 at first, so that
round 0 is FedAvg. "Modified" SCAFFOLD sets c_i := c at the start of every round: the correction is
then identically 0 and the model's path is FedAvg's, bit for bit; only the variate differs.
Client state c_i; server state w, c; one gradient per step (FedGAMMA two); two model sizes down
(w, c), one up: with option II the server can derive c_i from v_K (the paper sends both, two up).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ..kernels._args import TermsLike
from ..lr_schedules import Schedulable
from ._hook_checks import overrides
from ._parameter_checks import check, check_flag, check_word
from .base import ALGORITHMS, Algorithm
from .drift import DRIFTS, Drift, Renewal, check_steps, total_rate
from .hooks import Clients, Cohort, Direction, Rows, Sum, listed
from .optimizers import SAM, Optimizer


@DRIFTS.register("control-variate")
@dataclass(frozen=True)
class ControlVariate(Drift):
    """SCAFFOLD's correction `c - c_i`.

    option  "II" or "I", how c_i is renewed; I takes a pass over all local data at w
    steps   K in option II; None counts each client's own, FL-Simulator takes E n_0 / B
    reset   c_i := c at the start of every round ("modified" SCAFFOLD)
    """

    option: str = "II"
    steps: float | None = None
    reset: bool = False

    server_rows: ClassVar[tuple[str, ...]] = ("c",)
    constant: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    @property
    def extra(self) -> tuple[int, int]:  # type: ignore[override]
        """c goes down; c_i^+ - c_i comes up unless the server can derive it (option II)."""
        return (0, 0) if self.reset else (1, int(self.option == "I"))

    def __post_init__(self) -> None:
        check_word("option", self.option, ("I", "II"))
        check_flag("reset", self.reset)
        fits = self.steps is None or self.option == "II"
        check(fits, "steps", "None with option I, which has no K", self.steps)
        check_steps(self.steps)

    @property
    def plain(self) -> bool:
        """A reset variate corrects nothing."""
        return super().plain or (self.reset and not overrides(self, "correct", ControlVariate))

    @property
    def full_gradient(self) -> bool:  # type: ignore[override]
        """Whether `scratch["full"]` must hold the full local gradient at w."""
        return self.option == "I"

    def client_rows(self) -> Mapping[str, str]:
        """c_i, 0 at first."""
        return {"c_i": "zeros"}

    def scratch_rows(self) -> Sequence[str]:
        """The full gradient for option I."""
        return ("full",) if self.full_gradient else ()

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """`g + c - c_i`."""
        if self.reset:
            return Direction(terms)
        return Direction([*listed(terms), (at.server["c"], 1.0), (at.came["c_i"], -1.0)])

    def renewal(self, at: Clients) -> Renewal | None:
        """Option II."""
        if self.full_gradient:
            return None
        came, inverse = at.came["c_i"], 1.0 / total_rate(at, self.steps)
        old = (came, -1.0) if self.reset else (at.server["c"], -1.0)
        return Renewal(came, [old, (at.start, inverse), (at.w, -inverse)], at.kept["c_i"])

    def finish(self, at: Clients) -> Rows:
        """Renew c_i."""
        renewal = self.renewal(at)
        if renewal is None:
            at.kept["c_i"].copy_(at.scratch["full"])
        elif not at.renewed:
            renewal.apply(at.backend)
        return {}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """`c <- c + sum_S (c_i^+ - c_i) / N`."""
        population = cohort.population
        if self.full_gradient:
            each = torch.full_like(cohort.weights, 1.0 / population)
            if self.reset:  # the old c_i was c
                return [Sum("c", each, fade=1.0 / population, of="c_i")]
            return [Sum("c", each, of="c_i", change=True)]
        each = -torch.ones_like(cohort.weights) / (population * total_rate(cohort, self.steps))
        return [Sum("c", each, fade=1.0 / population)]


@ALGORITHMS.register("scaffold")
@dataclass(frozen=True)
class SCAFFOLD(Algorithm):
    """SGD under control variates; `modified` resets them every round (then it is FedAvg)."""

    drift: Drift = field(init=False, default_factory=ControlVariate)
    option: str = "II"
    steps: float | None = None
    modified: bool = False

    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        check_flag("modified", self.modified)
        self.compose(drift=ControlVariate(self.option, self.steps, self.modified))


@ALGORITHMS.register("fedgamma")
@dataclass(frozen=True)
class FedGAMMA(Algorithm):
    """SAM under control variates, which correct after the perturbation. rho 0.05 to 0.1."""

    local: Optimizer = field(init=False, default_factory=SAM)
    drift: Drift = field(init=False, default_factory=ControlVariate)
    rho: Schedulable = 0.1
    eps: float = 1e-12
    option: str = "II"
    steps: float | None = None

    def __post_init__(self) -> None:
        local = SAM(rho=self.rho, eps=self.eps)
        self.compose(local=local, drift=ControlVariate(self.option, self.steps))
