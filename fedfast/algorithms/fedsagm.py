"""FedSAGM: FedAvg whose clients run sharpness-aware gradient matching.
Wang et al., "Sharpness-Aware Gradient Matching for Domain Generalization", CVPR 2023.

    client   e = (rho / (|g| + eps) - alpha) g;   g' = grad at v + e;   d = g + g'
             v <- v - eta (clip(d) + wd v)
    server   as FedAvg

The perturbation turns into a descent as soon as |g| > rho / alpha. `variant="official"` halves the
sum, as the authors' optimizer does: `d = (g + g') / 2`, to be compared at twice the learning rate.
Client state none; server state w; two gradients per step; one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..kernels import perturb
from ..kernels._args import TermsLike
from ..lr_schedules import Schedulable
from ._parameter_checks import check_number, check_word
from .base import ALGORITHMS, Algorithm
from .hooks import Clients
from .optimizers import OPTIMIZERS, SAM, Optimizer


@OPTIMIZERS.register("sagm")
@dataclass(frozen=True)
class SAGM(SAM):
    """Gradient matching: the loss at the model plus the loss at `v + (rho / |g| - alpha) g`."""

    rho: Schedulable = 0.05
    alpha: float = 0.001
    variant: str = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha)
        check_word("variant", self.variant, ("paper", "official"))

    @property
    def keeps(self) -> bool:
        """Both gradients are descended along."""
        return True

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + (rho / (|g| + eps) - alpha) g`."""
        assert g is not None
        rho, shift = at.of_round(self.rho), self.alpha
        perturb(at.w, g, rho, out=out, alpha=shift, eps=self.eps, backend=at.backend)

    def terms(self, at: Clients) -> TermsLike:
        """`g + g'`, or half of it."""
        assert at.first is not None
        share = 0.5 if self.variant == "official" else 1.0
        return [(at.first, share), (at.g, share)]


@ALGORITHMS.register("fedsagm")
@dataclass(frozen=True)
class FedSAGM(Algorithm):
    """rho 0.05, alpha 0.001 in the authors' code; 0.001, 0.01 for MNIST elsewhere."""

    local: Optimizer = field(init=False, default_factory=SAGM)
    rho: Schedulable = 0.05
    alpha: float = 0.001
    eps: float = 1e-12
    variant: str = "paper"

    def __post_init__(self) -> None:
        local = SAGM(rho=self.rho, eps=self.eps, alpha=self.alpha, variant=self.variant)
        self.compose(local=local)
