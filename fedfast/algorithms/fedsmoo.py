"""FedSMOO. Sun et al., "Dynamic Regularized Sharpness Aware Minimization in Federated Learning:
Approaching Global Consistency and Smooth Landscape", ICML 2023.

    client   q = g(v) - mu_i - s;   e = rho q / (|q| + eps);   mu_i <- mu_i + e - s     (every step)
             d = grad at v + e, + lam (h_i + v - w) as in FedDyn;   h_i <- h_i + (v_K - w)
    server   w <- w + eta_g D + mean over all clients of h
             s <- rho A / (|A| + eps),   A = mean over S of (mu_i - e_K)

e_K is the client's last perturbation. `variant="official"` leaves e_K out of A, as the authors'
code does. lam is 0.1 in their code (1 / beta of the paper). mu = s = 0 at first, so that the very
first step is SAM's. Client state h_i, mu_i; server state w, s, the mean of h; two gradients per
step; two model sizes down (w, s), two up (v, mu_i - e_K).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..kernels import mix, perturb, step
from ..lr_schedules import Schedulable, at_round
from ._parameter_checks import check_word
from .base import ALGORITHMS, Algorithm
from .drift import Drift
from .feddyn import Dual
from .hooks import Clients, Cohort, Rows, ServerView, Sum
from .optimizers import OPTIMIZERS, SAM, Optimizer


@OPTIMIZERS.register("consensus-sam")
@dataclass(frozen=True)
class ConsensusSAM(SAM):
    """SAM whose perturbation is held to the others' by the dual mu_i and the global estimate s."""

    eps: float = 1e-7
    variant: str = "paper"

    server_rows: ClassVar[tuple[str, ...]] = ("s",)
    extra: ClassVar[tuple[int, int]] = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("variant", self.variant, ("paper", "official"))

    def client_rows(self) -> Mapping[str, str]:
        """mu_i, 0 at first."""
        return {"mu_i": "zeros"}

    def scratch_rows(self) -> Sequence[str]:
        """The last perturbation, which the paper's variant keeps."""
        return () if self.variant == "official" else ("e",)

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + rho q / (|q| + eps)`, `mu_i <- mu_i + e - s`."""
        assert g is not None
        mu, s, backend = at.own["mu_i"], at.server["s"], at.backend
        q = [(g, 1.0), (mu, -1.0), (s, -1.0)]
        perturb(at.w, q, at_round(self.rho, at.round), out=out, eps=self.eps, backend=backend)
        step(mu, [out, (at.w, -1.0), (s, -1.0)], -1.0, out=mu, backend=backend)
        if "e" in at.scratch:
            last = slice(at.going, None)
            mix(out[last], at.w[last], 1.0, -1.0, out=at.scratch["e"][last], backend=backend)

    def finish(self, at: Clients) -> Rows:
        """Leave `mu_i - e_K` in e's place."""
        if "e" in at.scratch:
            mu, e = at.own["mu_i"], at.scratch["e"]
            mix(mu, e, 1.0, -1.0, out=e, backend=at.backend)
        return {}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """A, in s's place."""
        each = torch.full_like(cohort.weights, 1.0 / len(cohort))
        return [Sum("s", each, keep=0.0, of="mu_i" if self.variant == "official" else "e")]

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """`s <- rho A / (|A| + eps)`."""
        s = server.rows["s"]
        rho, origin = at_round(self.rho, cohort.round), torch.zeros_like(s)[None]
        perturb(origin, s, rho, out=s[None], eps=self.eps, backend=cohort.backend)


@ALGORITHMS.register("fedsmoo")
@dataclass(frozen=True)
class FedSMOO(Algorithm):
    """FedDyn's duals for the model and for the perturbation. rho 0.1, lam 0.1 in the code."""

    local: Optimizer = field(init=False, default_factory=ConsensusSAM)
    drift: Drift = field(init=False, default_factory=Dual)
    rho: Schedulable = 0.1
    lam: float = 0.1
    eps: float = 1e-7
    clip: str = "linear"
    variant: str = "paper"

    official: ClassVar[tuple[int, int] | None] = (4, 2)

    def __post_init__(self) -> None:
        local = ConsensusSAM(rho=self.rho, eps=self.eps, variant=self.variant)
        self.compose(local=local, drift=Dual(self.lam, self.clip))
