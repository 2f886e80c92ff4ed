"""FedWMSAM: momentum-guided sharpness-aware minimisation with an adaptive mixing weight.

    client   Delta_k = M + alpha / (1 - alpha) (c - c_k)
             delta = (w - eta b Delta_k) - v_b            the predicted global model, seen from here
             g = grad at v_b + rho delta / (|delta| + eps)
             v <- v - eta (alpha g + (1 - alpha) Delta_k)
                = v - eta (alpha (g + c - c_k) + (1 - alpha) M)
             c_k <- c_k - c - D_k / (K_k eta)
    server   alpha <- (1 - lambda) alpha + lambda clip(mean_k (1 - cos(-D_k, M)), 0.1, 0.9)
             c <- c + sum_S dc_k / N;   M <- -sum_k p_k D_k / (K_k eta);   w <- w + eta_g D

The paper's algorithm 1 leaves signs and units of Delta open; here M is a mean gradient, so that the
local step is a descent and the prediction after b steps is w - eta b Delta_k. `variant="official"`
is the authors' code but for its indexing fault: the prediction moves by +Delta_k per step, the
perturbation points away from it, and M is multiplied by the learning rate's decay.
Client state c_k; server state w, M, c, alpha; one gradient per step; two model sizes down
(w, Delta_k), one up. alpha_0 0.1, lambda 0.01, rho 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..kernels import Column, cosines, norms, perturb, stats
from ..kernels._args import TermsLike
from ..kernels.placed import RowsLike
from ..lr_schedules import Schedulable
from ._parameter_checks import check, check_flag, check_number, check_schedule, check_word
from .base import ALGORITHMS, Algorithm
from .drift import DRIFTS, Drift
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
from .optimizers import OPTIMIZERS, Optimizer
from .row_calls import RecordedAscent, RowCall, StepNumbers
from .scaffold import ControlVariate

Shares = Sequence[float | Tensor]
Terms = list[tuple[RowsLike, float | Tensor]]
VARIANTS = ("paper", "official")


def _shares(at: Clients, scale: float | Tensor) -> Shares:
    """Of M, c and c_k in `scale * Delta_k`."""
    alpha = at.scalars["alpha"]
    apart = scale * alpha / (1.0 - alpha)
    return scale, apart, -apart


def _delta(at: Clients, shares: Shares) -> Terms:
    """`scale * Delta_k`, as terms."""
    return list(zip((at.server["m"], at.server["c"], at.came["c_i"]), shares, strict=True))


def _is_one(share: float | Tensor) -> bool:
    return not isinstance(share, Tensor) and share == 1.0


@OPTIMIZERS.register("guided-sam")
@dataclass(frozen=True)
class GuidedSAM(Optimizer):
    """The gradient on the way to the predicted global model: one per step."""

    rho: Schedulable = 0.01
    eps: float = 1e-12
    variant: str = "paper"

    looks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule("rho", self.rho)
        check_number("eps", self.eps)
        check_word("variant", self.variant, VARIANTS)

    def refuses(self, algorithm: Composition) -> str:
        """The prediction is made from the drift's momentum and variates."""
        if not isinstance(algorithm.drift, WeightedMomentum):
            return f"guided-sam predicts from weighted-momentum; drift is {algorithm.drift.name}"
        return super().refuses(algorithm)

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """The shares of M, c and c_k; rho."""
        return 3, 1

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = v + rho delta / (|delta| + eps)`."""
        self._toward(at, at.w, self._moved(at), out).apply(at.backend)

    def recorded(self, at: Clients, own: Tensor) -> RecordedAscent | None:
        """The same, with how far the prediction has moved read anew at each step."""
        if at.decay != 1.0 or isinstance(at.lr, Tensor) or at.ahead is None:
            return None
        each = [self._moved(replace(at, step=s)) for s in range(int(at.steps.max()))]
        moved = [
            (column[0][0], StepNumbers(tuple(c for _, c in column)))
            for column in zip(*each, strict=True)
        ]
        first, later = (self._toward(at, w, moved, at.ahead) for w in (at.w, own))
        return RecordedAscent([first], [later])

    def _moved(self, at: Clients) -> Terms:
        """What the prediction has moved by, with the step's own numbers."""
        return _delta(at, at.by_step(self._so_far))

    def _so_far(self, at: Clients) -> Shares:
        """How far the prediction has moved, in units of M, c and c_k."""
        return _shares(at, 1.0 * at.step if self.variant == "official" else -at.lr_so_far())

    def _radius(self, at: Clients) -> Shares:
        """rho, away from the prediction where that is official."""
        return (at.of_round(self.rho) * (-1.0 if self.variant == "official" else 1.0),)

    def _toward(self, at: Clients, w: Tensor, moved: Sequence[object], out: Tensor) -> RowCall:
        (rho,) = at.by_chunk(self._radius)
        terms = [(at.start, 1.0), (w, -1.0), *moved]
        return RowCall(perturb, (w, terms, rho), dict(out=out, eps=self.eps))


@DRIFTS.register("weighted-momentum")
@dataclass(frozen=True)
class WeightedMomentum(ControlVariate):
    """`alpha (g + c - c_k) + (1 - alpha) M` with alpha following the clients' agreement with M.

    alpha   before the first round, in (0, 1)
    lam     how fast alpha follows
    decay   what M is multiplied by besides (official code: the learning rate's decay)
    """

    alpha: float = 0.1
    lam: float = 0.01
    decay: float = 1.0

    server_rows: ClassVar[tuple[str, ...]] = ("c", "m")
    extra: ClassVar[tuple[int, int]] = (1, 0)
    in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, 0.0, 1.0, above=True)
        check(self.alpha < 1.0, "alpha", "less than 1: Delta_k divides by 1 - alpha", self.alpha)
        check_flag("reset", self.reset)
        check(not self.reset, "reset", "False: Delta_k needs the variates", self.reset)
        check_number("lam", self.lam, 0.0, 1.0)
        check_number("decay", self.decay, 0.0, 1.0, above=True)

    def server_scalars(self) -> Mapping[str, float]:
        """alpha."""
        return {"alpha": self.alpha}

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """alpha, and the shares of M, c and c_k."""
        return 0, 4

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """`alpha g + (1 - alpha) Delta_k`."""
        alpha, *shares = at.by_chunk(self._mixed)
        own = [(t, alpha if _is_one(c) else at.scalars["alpha"] * c) for t, c in listed(terms)]
        return Direction([*own, *_delta(at, shares)])

    def _mixed(self, at: Clients) -> Shares:
        """alpha, and the shares of M, c and c_k in `(1 - alpha) Delta_k`."""
        alpha = at.scalars["alpha"]
        return alpha, *_shares(at, 1.0 - alpha)

    def finish(self, at: Clients) -> Rows:
        """Renew c_k; how much D_k disagrees with M, 0 where one of them is zero."""
        super().finish(at)
        sums = stats(at.w, at.server["m"], x_ref=at.start, backend=at.backend)
        known = (norms(sums) > 0) & (norms(sums, Column.YY) > 0)
        return {"disagreement": torch.where(known, cosines(sums) + 1.0, 0.0)}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """c as SCAFFOLD's, M as FedCM's."""
        mean = -self.decay * cohort.weights / cohort.lr_total
        return [*super().sums(cohort), Sum("m", mean, keep=0.0)]

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """`alpha <- (1 - lambda) alpha + lambda clip(mean, 0.1, 0.9)`."""
        found = numbers["disagreement"].mean().clamp(0.1, 0.9)
        kept = (1 - self.lam) * server.scalars["alpha"]
        server.settle_scalar("alpha", kept + self.lam * found)


@ALGORITHMS.register("fedwmsam")
@dataclass(frozen=True)
class FedWMSAM(Algorithm):
    """`lam` is the paper's lambda; `lr_decay` is the run's, which only the official form uses."""

    local: Optimizer = field(init=False, default_factory=GuidedSAM)
    drift: Drift = field(init=False, default_factory=WeightedMomentum)
    rho: Schedulable = 0.01
    alpha: float = 0.1
    lam: float = 0.01
    eps: float = 1e-12
    lr_decay: float = 1.0
    steps: float | None = None
    variant: str = "paper"

    def __post_init__(self) -> None:
        check_number("lr_decay", self.lr_decay, 0.0, 1.0, above=True)
        check_word("variant", self.variant, VARIANTS)
        unused = self.variant != "official" and self.lr_decay != 1.0
        check(not unused, "lr_decay", "1: only the official variant has it", self.lr_decay)
        local = GuidedSAM(rho=self.rho, eps=self.eps, variant=self.variant)
        decay = self.lr_decay if self.variant == "official" else 1.0
        drift = WeightedMomentum(steps=self.steps, alpha=self.alpha, lam=self.lam, decay=decay)
        self.compose(local=local, drift=drift)
