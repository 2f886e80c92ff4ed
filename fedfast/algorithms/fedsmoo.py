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
from ..kernels.placed import RowsLike
from ..lr_schedules import Schedulable, at_round
from ._parameter_checks import check_word
from .base import ALGORITHMS, Algorithm
from .drift import Drift
from .feddyn import Dual
from .hooks import Clients, Cohort, Rows, ServerView, Sum, keep_rows
from .optimizers import OPTIMIZERS, SAM, Optimizer
from .row_calls import RecordedAscent, RowCall


@OPTIMIZERS.register("consensus-sam")
@dataclass(frozen=True)
class ConsensusSAM(SAM):
    """SAM whose perturbation is held to the others' by the dual mu_i and the global estimate s."""

    eps: float = 1e-7
    variant: str = "paper"

    server_rows: ClassVar[tuple[str, ...]] = ("s",)
    extra: ClassVar[tuple[int, int]] = (1, 1)
    in_place: ClassVar[bool] = True
    ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("variant", self.variant, ("paper", "official"))

    def client_rows(self) -> Mapping[str, str]:
        """mu_i, 0 at first."""
        return {"mu_i": "zeros"}

    def scratch_rows(self) -> Sequence[str]:
        """The last perturbation, which the paper's variant keeps."""
        return () if self.variant == "official" else ("e",)

    def begin(self, at: Clients) -> None:
        """Who makes no step keeps mu_i, and has perturbed nothing."""
        if at.going < len(at):
            idle = torch.arange(at.going, len(at), device=at.w.device)
            keep_rows(at, "mu_i", idle)
            for e in at.scratch.values():
                e[idle] = 0.0

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + rho q / (|q| + eps)`, `mu_i <- mu_i + e - s`."""
        assert g is not None
        mu = at.came["mu_i"] if at.fresh else at.kept["mu_i"]
        for call in self._moves(at, at.w, mu, g, out):
            call.apply(at.backend)
        if "e" in at.scratch:
            last = slice(at.going, None)
            e = at.scratch["e"][last]
            mix(out[last], at.w[last], 1.0, -1.0, out=e, backend=at.backend)

    def _moves(self, at: Clients, w: Tensor, mu: RowsLike, g: Tensor, out: Tensor) -> list[RowCall]:
        s, rho = at.server["s"], at.of_round(self.rho)
        q = [(g, 1.0), (mu, -1.0), (s, -1.0)]
        renewed = mu, [out, (w, -1.0), (s, -1.0)], -1.0
        return [
            RowCall(perturb, (w, q, rho), dict(out=out, eps=self.eps)),
            RowCall(step, renewed, dict(out=at.kept["mu_i"])),
        ]

    def recorded(self, at: Clients, own: Tensor) -> RecordedAscent | None:
        """The same; e, which the last step leaves, is written at every one, over g."""
        if at.ahead is None:
            return None
        out, e = at.ahead, at.scratch.get("e")
        g = at.g if e is None else e
        calls: list[list[RowCall]] = []
        for w, mu in ((at.w, at.came["mu_i"]), (own, at.kept["mu_i"])):
            calls.append(self._moves(at, w, mu, g, out))
            if "e" in at.scratch:
                calls[-1].append(RowCall(mix, (out, w, 1.0, -1.0), dict(out=g)))
        first, later = calls
        return RecordedAscent(first, later, e, end=self._sent(at))

    def _sent(self, at: Clients) -> list[RowCall]:
        """`mu_i - e_K` in e's place."""
        if "e" not in at.scratch:
            return []
        e = at.scratch["e"]
        return [RowCall(step, (at.kept["mu_i"], [e], 1.0), dict(out=e))]

    def finish(self, at: Clients) -> Rows:
        """Leave `mu_i - e_K` in e's place."""
        if not at.renewed:
            for call in self._sent(at):
                call.apply(at.backend)
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
