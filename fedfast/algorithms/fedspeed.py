"""FedSpeed. Sun et al., "FedSpeed: Larger Local Interval, Less Communication Round, and Higher
Generalization Accuracy", ICLR 2023.

    client   g1 = grad at v;   g2 = grad at v + rho g1 / (|g1| + eps)
             g = (1 - alpha) g1 + alpha g2
             v <- v - eta (g - ghat_i + lam (v - w));   ghat_i <- ghat_i - lam (v_K - w)
    server   w <- mean over S of (v_K - ghat_i / lam)                   (algorithm 1, lines 4-17)

With h_i = -ghat_i / lam the client is FedDyn's over that gradient, and the server takes
`w + eta_g D + mean_S h_i`. lam is 1 / lambda of the paper, 0.1 in the authors' code. The paper's
text does not settle whether the ascent is normalised; all code does. `variant="official"` is the
authors' code: alpha = 1, and the mean of h over all clients, not over S: then it is FedDyn+SAM.
Client state h_i; server state w, the mean of h; two gradients per step; one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..kernels._args import TermsLike
from ..lr_schedules import Schedulable
from ._parameter_checks import check, check_number, check_word
from .base import ALGORITHMS, Algorithm
from .drift import Drift
from .feddyn import Dual
from .hooks import Clients
from .optimizers import OPTIMIZERS, SAM, Optimizer


@OPTIMIZERS.register("extra-sam")
@dataclass(frozen=True)
class ExtraSAM(SAM):
    """Descends along `(1 - alpha) g + alpha g'`, g at the model and g' at its ascent."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, 0.0, 1.0)

    @property
    def keeps(self) -> bool:
        """Both gradients are needed unless one has no weight."""
        return self.alpha < 1.0

    @property
    def single(self) -> bool:
        """With alpha 1 the second gradient is all."""
        return not self.keeps

    def terms(self, at: Clients) -> TermsLike:
        """`(1 - alpha) g + alpha g'`."""
        if at.first is None:
            return at.g
        return [(at.first, 1.0 - self.alpha), (at.g, self.alpha)]


@ALGORITHMS.register("fedspeed")
@dataclass(frozen=True)
class FedSpeed(Algorithm):
    """The prox-correction of FedDyn over an extra gradient, amended models averaged."""

    local: Optimizer = field(init=False, default_factory=ExtraSAM)
    drift: Drift = field(init=False, default_factory=Dual)
    rho: Schedulable = 0.1
    lam: float = 0.1
    alpha: float = 1.0
    eps: float = 1e-7
    clip: str = "linear"
    variant: str = "paper"

    official: ClassVar[tuple[int, int] | None] = (2, 1)
    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        check_word("variant", self.variant, ("paper", "official"))
        official = self.variant == "official"
        check(not official or self.alpha == 1.0, "alpha", "1 with the official variant", self.alpha)
        local = ExtraSAM(rho=self.rho, eps=self.eps, alpha=self.alpha)
        drift = Dual(self.lam, self.clip, "all" if official else "cohort")
        self.compose(local=local, drift=drift)
