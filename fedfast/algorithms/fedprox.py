"""FedProx. Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020.

    client   min f_k(v) + (mu / 2) |v - w|^2:  v <- v - eta (g + mu (v - w))      (eq. 2)
    server   as FedAvg

Client state none; server state w; one gradient per step; one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..kernels._args import TermsLike
from ._parameter_checks import check_number, check_word
from .base import ALGORITHMS, Algorithm
from .drift import CLIPS, DRIFTS, Drift, pulled
from .hooks import Clients, Direction


@DRIFTS.register("prox")
@dataclass(frozen=True)
class Prox(Drift):
    """The proximal term `mu (v - w)`; see `drift.CLIPS` for `clip`."""

    mu: float = 0.1
    clip: str = "linear"

    constant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("mu", self.mu)
        check_word("clip", self.clip, CLIPS)

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """`g + mu (v - w)`."""
        return pulled(at, terms, self.mu, self.clip)


@ALGORITHMS.register("fedprox")
@dataclass(frozen=True)
class FedProx(Algorithm):
    """FedAvg with the proximal term. mu: 0.1 in FL-Simulator, 1e-4 in FedDyn's repository."""

    drift: Drift = field(init=False, default_factory=Prox)
    mu: float = 0.1
    clip: str = "linear"

    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        self.compose(drift=Prox(self.mu, self.clip))
