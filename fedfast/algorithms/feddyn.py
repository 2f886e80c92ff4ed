"""FedDyn. Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021.

    client   min f_i(v) - <lam_i, v> + (lam / 2) |v - w|^2;   lam_i <- lam_i - lam (v_K - w)
    server   w <- mean_S v_K - H / lam                                  (algorithm 1)

written with h_i = -lam_i / lam:

    client   d = g + lam (h_i - w);   v <- v - eta (clip(d) + (wd + lam) v)
             h_i <- h_i + (v_K - w)
    server   w <- w + eta_g D + mean over all N clients of h_i

Client state h_i; server state w and the mean of h; one gradient per step; one model down, one up.
`FedDyn(local=SAM(...))` is FedDyn+SAM. On hard splits the duals can explode; the run then ends as
diverged, in the round it happened. The paper's mean is uniform: `aggregation="uniform"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ..kernels._args import TermsLike
from ._parameter_checks import check_number, check_word
from .base import ALGORITHMS, Algorithm
from .drift import CLIPS, DRIFTS, Drift, Renewal, pulled
from .hooks import Clients, Cohort, Direction, Rows, Sum, listed


@DRIFTS.register("dual")
@dataclass(frozen=True)
class Dual(Drift):
    """ADMM's dual `lam h_i` beside the proximal term `lam (v - w)`.

    clip   see `drift.CLIPS`
    adds   what joins the model at the server: the mean of h over "all" clients, or over the
           "cohort" (FedSpeed's paper)
    """

    lam: float = 0.1
    clip: str = "linear"
    adds: str = "all"

    server_rows: ClassVar[tuple[str, ...]] = ("h",)
    constant: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("lam", self.lam)
        check_word("clip", self.clip, CLIPS)
        check_word("adds", self.adds, ("all", "cohort"))

    def client_rows(self) -> Mapping[str, str]:
        """h_i, 0 at first."""
        return {"h_i": "zeros"}

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """`g + lam (h_i + v - w)`."""
        return pulled(at, [*listed(terms), (at.came["h_i"], self.lam)], self.lam, self.clip)

    def renewal(self, at: Clients) -> Renewal:
        """`h_i <- h_i + (v_K - w)`."""
        return Renewal(at.came["h_i"], [(at.w, 1.0), (at.start, -1.0)], at.kept["h_i"])

    def finish(self, at: Clients) -> Rows:
        """Renew h_i."""
        if not at.renewed:
            self.renewal(at).apply(at.backend)
        return {}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """The mean of h."""
        if self.adds == "cohort":
            return [Sum("h", cohort.weights, keep=0.0, of="h_i")]
        return [Sum("h", torch.full_like(cohort.weights, 1.0 / cohort.population))]

    def added(self) -> Mapping[str, float]:
        """`w + eta_g D + h`."""
        return {"h": 1.0}


@ALGORITHMS.register("feddyn")
@dataclass(frozen=True)
class FedDyn(Algorithm):
    """lam: 0.1 in FL-Simulator, 0.01 in the authors' CIFAR-10 example (their alpha)."""

    drift: Drift = field(init=False, default_factory=Dual)
    lam: float = 0.1
    clip: str = "linear"

    official: ClassVar[tuple[int, int] | None] = (2, 1)
    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        self.compose(drift=Dual(self.lam, self.clip))
