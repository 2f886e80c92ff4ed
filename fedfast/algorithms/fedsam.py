"""FedSAM and FedASAM. Qu et al., "Generalized Federated Learning via Sharpness Aware
Minimization", ICML 2022; Caldarola et al., "Improving Generalization in Federated Learning by
Seeking Flat Minima", ECCV 2022.

    client   g = grad at v;  e = rho g / (|g| + eps);  g' = grad at v + e  (same batch)
             v <- v - eta (clip(g') + wd v)
    server   as FedAvg

FedASAM scales the perturbation element by element, see `ASAM`. Client state none; server state w;
two gradients per step; one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..lr_schedules import Schedulable
from .base import ALGORITHMS, Algorithm
from .optimizers import ASAM, SAM, Optimizer


@ALGORITHMS.register("fedsam")
@dataclass(frozen=True)
class FedSAM(Algorithm):
    """FedAvg whose clients run SAM with radius `rho` (CIFAR-10: 0.1); see `SAM` for `eps`."""

    local: Optimizer = field(init=False, default_factory=SAM)
    rho: Schedulable = 0.1
    eps: float = 1e-12

    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        self.compose(local=SAM(rho=self.rho, eps=self.eps))


@ALGORITHMS.register("fedasam")
@dataclass(frozen=True)
class FedASAM(Algorithm):
    """FedAvg whose clients run ASAM with radius `rho` and offset `eta` (CIFAR-10: 0.7, 0.2)."""

    local: Optimizer = field(init=False, default_factory=ASAM)
    rho: Schedulable = 0.7
    eta: float = 0.2
    eps: float = 1e-16

    def __post_init__(self) -> None:
        self.compose(local=ASAM(rho=self.rho, eta=self.eta, eps=self.eps))
