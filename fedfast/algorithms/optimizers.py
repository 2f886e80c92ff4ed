"""The clients' optimizers: where a step's gradient is taken, and local momentum.

One object serves under any algorithm: `FedAvg(local=SAM(rho=0.05))` is FedSAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..kernels import layer_reach, norms, perturb, stats
from ..kernels._args import TermsLike
from ..lr_schedules import Schedulable
from ..registry import class_registry
from ._hook_checks import base, depth, overrides
from ._parameter_checks import check, check_flag, check_number, check_schedule
from .hooks import Clients, Component, Composition
from .layer_radii import LayerRadii
from .objective import Objective, Sampling
from .row_calls import RecordedAscent

SCALES = "radii", "scales"  # hooks that say how far each tensor is moved along the gradient
OPTIMIZERS = class_registry("local optimizer", "Optimizer", lambda: Optimizer)


@base
@dataclass(frozen=True)
class Optimizer(Component):
    """Base of the clients' optimizers.

    momentum  torch-style heavy ball, reset at the start of every round (the papers use 0)
    nesterov  Nesterov's form of it
    """

    momentum: float = 0.0
    nesterov: bool = False

    ends: ClassVar[bool] = False  # `ascend` reads how many clients are `going` on
    by_class: ClassVar[bool] = False  # the objective reads targets as classes of the outputs
    step_values: ClassVar[tuple[str, ...]] = ()  # client values that the objective writes

    _derived: ClassVar[tuple[str, ...]] = ("ascends", "layered", "own_loss")

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, 0.0, 1.0)
        check_flag("nesterov", self.nesterov)
        check(
            not self.nesterov or self.momentum > 0,
            "nesterov",
            "False without momentum",
            self.nesterov,
        )

    @property
    def own_loss(self) -> str:
        """Why gradients are not those of the run's loss alone, or ""."""
        return self._loss_beside(Optimizer)

    def _loss_beside(self, known: type[Optimizer]) -> str:
        """The same where layer programs have the objective of the class `known`."""
        own = overrides(self, "objective", known)
        return "the algorithm has a loss of its own" if own else ""

    @property
    def ascends(self) -> bool:
        """Whether the step's gradient is taken at `ahead`, not at `w`."""
        return any(overrides(self, name, Optimizer) for name in ("ascend", *SCALES))

    @property
    def looks(self) -> bool:
        """Whether `ahead` depends on the gradient at `w`: two per step. A class may set False."""
        return self.ascends

    @property
    def layered(self) -> bool:
        """Whether `ahead = w + s g` with a number for each tensor: not by an `ascend` of its own.

        Those are `radii` over the gradient's norm, or `scales`. A class that has `ascend` beside
        them computes the same in both.
        """
        own = any(overrides(self, name, Optimizer) for name in SCALES)
        return own and min(depth(self, name) for name in SCALES) <= depth(self, "ascend")

    @property
    def single(self) -> bool:
        """Whether the terms are the step's gradient and nothing else."""
        return not overrides(self, "terms", Optimizer)

    @property
    def keeps(self) -> bool:
        """Whether the gradient at `w` outlives the second one, in `first`."""
        return False

    def refuses(self, algorithm: Composition) -> str:
        """Control variates and duals assume that a client moves by -eta times its directions."""
        drift = algorithm.drift
        keeps = bool(drift.server_rows or drift.client_rows())
        if self.momentum and keeps and not drift.plain:
            return f"local momentum under {drift.name}, whose state is derived from plain SGD steps"
        return ""

    @property
    def sampling(self) -> Sampling | None:
        """How the objective samples between an encoder and a head, where it does."""
        return None

    def drawn(
        self, at: Clients, client: np.ndarray, step: np.ndarray, count: Tensor, width: int
    ) -> Tensor | None:
        """Random numbers for the objective, of n batches of clients and steps, on the host.

        client  [n], positions among `at` of the clients that the batches are of
        step    [n], which of its client's batches each is
        count   [n], its samples, of at most `width`
        Returns [n, ...], of which the objective of a batch finds its own in `at.noise`. On the CPU
        it is asked step by step, for a device once for all steps of a chunk: the numbers may follow
        from these arguments, `at.seed`, `at.round` and `at.ids` alone.
        """
        return None

    def objective(self, at: Clients, looking: bool) -> Objective | None:
        """The loss whose gradient is taken, None for the run's; asked of classes that override it.

        looking  for the gradient that `ascend` is given, not the step's
        """
        return None

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """Write `ahead`, where the step's gradient is taken. out: [K, trained]

        g   [K, trained], the gradient at `at.w` for those that look, else None
        """
        if not self.layered or g is None:
            raise TypeError(f"{type(self).__name__} takes its gradient at the model itself")
        scales = self.scales(at, norms(stats(g, backend=at.backend))).to(g)
        spans = [b for b, _ in at.layout.segments.spans]
        for i, (a, b) in enumerate(zip(spans, [*spans[1:], at.layout.trained], strict=True)):
            torch.addcmul(at.w[:, a:b], scales[:, i : i + 1], g[:, a:b], out=out[:, a:b])

    def recorded(self, at: Clients, own: Tensor) -> RecordedAscent | None:
        """What `begin`, `ascend` and `finish` do, where that is operations on rows alone.

        own  [K, trained], the clients' models after their first step; `at.w` before it
        A class that has it computes the same, to the bit, in both ways. None: ask the hooks.
        """
        return None

    def radii(self, at: Clients) -> LayerRadii | None:
        """What the s_l of those that are `layered` follow from; None: `scales` has them."""
        return None

    def scales(self, at: Clients, length: Tensor) -> Tensor:
        """The s_l of those that are `layered` [K, L]; length: |g| [K] float64.

        A class that has `radii` needs none: its steps do not ask for them.
        """
        found = self.radii(at)
        if found is None:
            raise TypeError(f"{self.name} has no scales")
        squares = [length.square()[:, None]]  # whose root is the length, to the bit
        rho, eps, limit = found.rho, found.eps, found.limit
        return layer_reach(rho, squares, eps, limit=limit, backend=at.backend).T

    def terms(self, at: Clients) -> TermsLike:
        """The step's gradient, as terms."""
        return at.g


@OPTIMIZERS.register("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: `v <- v - eta * d`, one gradient per step."""


@OPTIMIZERS.register("sam")
@dataclass(frozen=True)
class SAM(Optimizer):
    """Sharpness-aware minimisation: the gradient at `v + rho * g / (|g| + eps)`, same mini-batch.

    One Euclidean norm over the whole model. rho: radius, a number or a schedule over rounds, 0.1 in
    FL-Simulator and in the ECCV paper for CIFAR-10. eps: joins the norm, 1e-7 in FL-Simulator,
    1e-12 in SAGM, FedSOL and FedNSAM, 1e-16 in FedGloSS, absent in the papers.
    Source: Foret et al., "Sharpness-Aware Minimization", ICLR 2021, eq. 2.
    """

    rho: Schedulable = 0.1
    eps: float = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule("rho", self.rho)
        check_number("eps", self.eps)

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + rho g / (|g| + eps)`."""
        assert g is not None
        perturb(at.w, g, at.of_round(self.rho), out=out, eps=self.eps, backend=at.backend)


@OPTIMIZERS.register("asam")
@dataclass(frozen=True)
class ASAM(SAM):
    """Adaptive SAM: `e = rho * t^2 g / (|t g| + eps)`, `t = |v| + eta` on weights, 1 on biases.

    rho 0.7 and eta 0.2 are FedASAM's for CIFAR-10. "Weights" are the parameters with "weight" in
    their name.
    Source: Kwon et al., "ASAM", ICML 2021; Caldarola et al., ECCV 2022.
    """

    rho: Schedulable = 0.7
    eps: float = 1e-16
    eta: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("eta", self.eta)

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + rho t^2 g / (|t g| + eps)`."""
        assert g is not None
        perturb(
            at.w,
            g,
            at.of_round(self.rho),
            out=out,
            segments=at.layout.segments,
            eps=self.eps,
            adaptive=self.eta,
            backend=at.backend,
        )
